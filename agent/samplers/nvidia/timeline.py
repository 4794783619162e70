"""What a device, or one run's part of it, did over the last minutes. Pure.

Spans in order, none over another. A span knows how much of it was observed: the mean over
any stretch of time is that of its observed part, and None where there is none.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

KEEP_MS = 180_000
"""Longer than any reading can be waited for."""

_GRAIN_MS = 250
"""Shorter spans are put together: some drivers sample every 20 ms."""


class Span(NamedTuple):
    """A stretch of time; `busy` in base units x ms, over the `covered_ms` observed of it."""

    start_ms: int
    end_ms: int
    busy: int
    covered_ms: int


class Use(NamedTuple):
    """Base units x ms, over so many observed ms."""

    busy: int
    covered_ms: int

    @property
    def mean(self) -> int | None:
        """Base units in use on average; None = unknown."""
        return self.busy // self.covered_ms if self.covered_ms else None


class Timeline:
    """See the module."""

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        """Know of nothing yet."""
        self._spans: deque[Span] = deque()

    def extend(self, spans: Iterable[Span]) -> None:
        """Add newer spans; what lies over an older one is cut off."""
        for span in spans:
            self.add(span)

    def add(self, span: Span) -> None:
        """Add a newer span."""
        last = self._spans[-1] if self._spans else None
        if last is not None and span.start_ms < last.end_ms:
            span = _tail(span, last.end_ms)
        if span.end_ms <= span.start_ms:
            return
        if last and last.end_ms == span.start_ms and span.end_ms - last.start_ms <= _GRAIN_MS:
            busy, covered_ms = last.busy + span.busy, last.covered_ms + span.covered_ms
            self._spans[-1] = Span(last.start_ms, span.end_ms, busy, covered_ms)
        else:
            self._spans.append(span)
        while self._spans[0].end_ms < span.end_ms - KEEP_MS:
            self._spans.popleft()

    def between(self, start_ms: int, end_ms: int) -> Use:
        """What lies in [start, end); a span that is cut counts in proportion."""
        busy = covered_ms = 0
        for span in reversed(self._spans):
            if span.end_ms <= start_ms:
                break
            length_ms = span.end_ms - span.start_ms
            part_ms = min(end_ms, span.end_ms) - max(start_ms, span.start_ms)
            if part_ms >= length_ms:
                busy += span.busy
                covered_ms += span.covered_ms
            elif part_ms > 0:
                busy += span.busy * part_ms // length_ms
                covered_ms += span.covered_ms * part_ms // length_ms
        return Use(busy, covered_ms)


def _tail(span: Span, start_ms: int) -> Span:
    """What of a span comes after an instant."""
    length_ms, part_ms = span.end_ms - span.start_ms, span.end_ms - start_ms
    if part_ms <= 0:
        return Span(start_ms, start_ms, 0, 0)
    return Span(
        start_ms,
        span.end_ms,
        span.busy * part_ms // length_ms,
        span.covered_ms * part_ms // length_ms,
    )
