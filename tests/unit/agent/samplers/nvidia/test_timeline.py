"""Spans of time, and what lies between two instants of them."""

from hypothesis import given
from hypothesis import strategies as st

from agent.samplers.nvidia.timeline import KEEP_MS, Span, Timeline, Use

LENGTHS = st.lists(st.tuples(st.integers(1, 3_000), st.integers(0, 126_000)), max_size=30)


def laid_out(pieces: list[tuple[int, int]]) -> tuple[Timeline, list[Span]]:
    """One span after the other, each at its level."""
    spans: list[Span] = []
    at_ms = 1_000_000
    for length_ms, level in pieces:
        spans.append(Span(at_ms, at_ms + length_ms, level * length_ms, length_ms))
        at_ms += length_ms
    timeline = Timeline()
    timeline.extend(spans)
    return timeline, spans


@given(LENGTHS)
def test_all_of_it_is_the_sum(pieces: list[tuple[int, int]]) -> None:
    """Whatever was put together to save room."""
    timeline, spans = laid_out(pieces)
    whole = timeline.between(0, 2_000_000)
    assert whole == Use(sum(span.busy for span in spans), sum(span.covered_ms for span in spans))


@given(LENGTHS, st.integers(1_000_000, 1_100_000))
def test_a_cut_changes_no_total(pieces: list[tuple[int, int]], cut_ms: int) -> None:
    """But for what is lost below one unit."""
    timeline, _ = laid_out(pieces)
    whole = timeline.between(0, 2_000_000)
    parts = timeline.between(0, cut_ms), timeline.between(cut_ms, 2_000_000)
    assert 0 <= whole.busy - sum(part.busy for part in parts) <= 1
    assert 0 <= whole.covered_ms - sum(part.covered_ms for part in parts) <= 1


def test_a_mean_is_of_what_was_observed() -> None:
    """A hole is not idle; nothing observed is unknown."""
    timeline = Timeline()
    timeline.add(Span(0, 1_000, 50_000, 1_000))
    timeline.add(Span(9_000, 10_000, 150_000, 1_000))
    assert timeline.between(0, 10_000).mean == 100
    assert timeline.between(2_000, 8_000).mean is None


def test_what_lies_over_an_older_span_is_cut_off() -> None:
    """The same time is not counted twice."""
    timeline = Timeline()
    timeline.add(Span(0, 1_000, 1_000, 1_000))
    timeline.add(Span(500, 2_000, 15_000, 1_500))
    timeline.add(Span(600, 900, 9_999, 300))
    assert timeline.between(0, 2_000) == Use(11_000, 2_000)


def test_old_spans_are_let_go() -> None:
    """A node runs for years."""
    timeline = Timeline()
    for at_ms in range(0, 2 * KEEP_MS, 1_000):
        timeline.add(Span(at_ms, at_ms + 1_000, 1, 1_000))
    assert timeline.between(0, 2 * KEEP_MS).covered_ms <= KEEP_MS + 1_000


def test_short_spans_are_put_together() -> None:
    """Some drivers sample every 20 ms: 9,000 in the time that is kept."""
    timeline = Timeline()
    for at_ms in range(0, KEEP_MS, 20):
        timeline.add(Span(at_ms, at_ms + 20, 20, 20))
    assert len(timeline._spans) <= KEEP_MS // 240
    assert timeline.between(0, KEEP_MS) == Use(KEEP_MS, KEEP_MS)
