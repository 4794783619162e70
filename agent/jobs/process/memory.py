"""Remembers over a restart of the agent when the runs began, since no process may remember it.

A run is named by the start of its first process. That one may be gone long before the run
is; who looks for the first time then would find another start, and bill the run once more.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias

from agent.jobs.process.groups import JobOf

_MAX_BYTES = 4 << 20

_Json: TypeAlias = "int | str | list[_Json] | dict[str, _Json] | None"


class _Saved(NamedTuple):
    seen_ticks: int  # when the agent looked last
    starts: Mapping[JobOf, int]


class StartMemory:
    """A file of the agent's own; without it, or with a damaged one, runs begin anew."""

    def __init__(self, path: Path | None, boot_id: str) -> None:
        """Read what was remembered in this boot; None = remember nothing."""
        self._path = path
        self._boot_id = boot_id
        saved = self._load()
        self._saved = saved or _Saved(0, {})

    def start_of(self, job: JobOf, oldest: int) -> int:
        """When the run began, in ticks, whose oldest process living now began at `oldest`.

        A process that began after the last look is of another run of the same job.
        """
        start = self._saved.starts.get(job)
        if start is None or not start <= oldest <= self._saved.seen_ticks:
            return oldest
        return start

    def save(self, seen_ticks: int, starts: Mapping[JobOf, int]) -> None:
        """Remember who lives now; where that cannot be written, the next start is a new one."""
        if self._path is None:
            return
        rows = [[job_id, uid, start] for (job_id, uid), start in starts.items()]
        text = json.dumps({"boot_id": self._boot_id, "seen": seen_ticks, "starts": rows})
        aside = self._path.with_suffix(".new")
        with suppress(OSError):
            aside.write_text(text)
            os.replace(aside, self._path)  # noqa: PTH105  the same in fewer steps

    def _load(self) -> _Saved | None:
        with suppress(OSError, ValueError, RecursionError):
            if self._path is None or self._path.stat().st_size > _MAX_BYTES:
                return None
            document: _Json = json.loads(self._path.read_text())
            if isinstance(document, dict) and document.get("boot_id") == self._boot_id:
                return _take(document)
        return None


def _take(document: dict[str, _Json]) -> _Saved | None:
    seen, rows = document.get("seen"), document.get("starts")
    if not isinstance(seen, int) or not isinstance(rows, list):
        return None
    starts: dict[JobOf, int] = {}
    for row in rows:
        match row:
            case [str(job_id), int(uid), int(start)]:
                starts[job_id, uid] = start
            case _:
                return None
    return _Saved(seen, starts)
