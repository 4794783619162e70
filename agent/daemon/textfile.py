"""The agent's own figures as Prometheus text in a file, for node_exporter to collect.

Written whole and renamed into place after each full look, so that a reader never finds
half of it, and its age tells whether the agent still looks.
"""

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.daemon.counters import DaemonCounters
from agent.daemon.sources import Source
from agent.model import Device

_LOGGER = logging.getLogger(__name__)
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is shown."""

    now_ms: int
    counters: DaemonCounters
    sources: Mapping[str, Source]  # by "provider NAME" and "sampler NAME"
    runs: Mapping[str, int]  # live ones by provider
    devices: Iterable[Device]
    unacked_frames: int
    refused_frames: int
    is_blocked: bool  # for want of room on the disk


class Textfile:
    """Writes one file; a disk that takes none is logged once."""

    def __init__(self, path: Path) -> None:
        """Write to `path`, whose directory must exist."""
        self._path = path
        self._failure: str | None = None

    def write(self, figures: Figures) -> None:
        """Put the file in place, or log why not."""
        new = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            new.write_text(render(figures), encoding="utf-8")
            new.chmod(0o644)
            new.replace(self._path)
        except OSError as error:
            if self._failure != error.strerror:
                self._failure = error.strerror
                _LOGGER.warning(
                    "the figures of the agent cannot be written",
                    extra={"action": "fail", "file": str(self._path), "reason": error.strerror},
                )
        else:
            self._failure = None


def render(figures: Figures) -> str:
    """The exposition format; unknown is absent."""
    counters = figures.counters
    families = [
        _family("looks_total", "counter", "Looks at the node.", {"": counters.looks}),
        _family("records_total", "counter", "Usage records told.", {"": counters.records}),
        _family("frames_total", "counter", "Frames made durable.", {"": counters.frames}),
        _family("clock_steps_total", "counter", "Steps followed.", {"": counters.clock_steps}),
        _family("lost_streams_total", "counter", "Streams given up.", {"": counters.lost_streams}),
        _family(
            "source_failures_total",
            "counter",
            "Failed questions to a provider or sampler.",
            _failures("provider", counters.provider_failures)
            | _failures("sampler", counters.sampler_failures),
        ),
        _family(
            "source_up",
            "gauge",
            "Whether a provider or sampler answered the last question.",
            {_source_labels(name): int(one.failure is None) for name, one in _sorted(figures)},
        ),
        _family(
            "source_age_seconds",
            "gauge",
            "Age of its last complete answer.",
            {
                _source_labels(name): (figures.now_ms - one.answered_at_ms) / 1000
                for name, one in _sorted(figures)
                if one.answered_at_ms is not None
            },
        ),
        _family(
            "runs",
            "gauge",
            "Runs that are metered.",
            {_labels(provider=name): count for name, count in figures.runs.items()},
        ),
        _family(
            "device_up",
            "gauge",
            "Whether a device can be used.",
            {
                _labels(device=one.id, model=one.model, type=one.type): int(one.is_up)
                for one in figures.devices
            },
        ),
        _family(
            "refused_frames_total",
            "counter",
            "Frames that the aggregator will never take, kept aside.",
            {"": figures.refused_frames},
        ),
        _family("unacked_frames", "gauge", "Frames to deliver.", {"": figures.unacked_frames}),
        _family("spool_full", "gauge", "Whether the disk is full.", {"": int(figures.is_blocked)}),
    ]
    return "".join(families)


def _sorted(figures: Figures) -> list[tuple[str, Source]]:
    return sorted(figures.sources.items())


def _failures(kind: str, counts: Mapping[str, int]) -> dict[str, float]:
    return {_labels(kind=kind, source=name): count for name, count in sorted(counts.items())}


def _source_labels(who: str) -> str:
    kind, _, name = who.partition(" ")
    return _labels(kind=kind, source=name)


def _labels(**labels: str) -> str:
    inner = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())
    return f"{{{inner}}}"


def _family(name: str, kind: str, words: str, values: Mapping[str, float]) -> str:
    full = f"nodemeter_agent_{name}"
    lines = [f"# HELP {full} {words}", f"# TYPE {full} {kind}"]
    lines += [f"{full}{labels} {value:g}" for labels, value in values.items()]
    return "\n".join(lines) + "\n"
