"""Room for segments, allocated ahead of need."""

import os
from contextlib import suppress
from pathlib import Path

from agent.spool import disk

MIN_ROOM_BYTES = 16 << 10
"""With less than this, full is what the disk is."""

_SHARES = 16


class Room:
    """Allocates files for segments, and keeps one in reserve against a full disk."""

    def __init__(self, directory: Path, segment_bytes: int) -> None:
        """Allocate in `directory`, `segment_bytes` at a time where there is that much."""
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._reserve = directory / "reserve"

    def take(self, needed: int) -> Path:
        """A file of at least `needed` zeros, to be renamed: the reserve if that will do.

        Raises:
            OSError: there is none to be had.
        """
        if self._reserve.exists() and self._reserve.stat().st_size >= needed:
            return self._reserve
        return self._allocate(self._directory / "segment.new", needed)

    def keep_reserve(self) -> None:
        """Allocate the reserve anew; on a full disk there is none until there is room."""
        if not self._reserve.exists():
            with suppress(OSError):
                disk.rename(self._allocate(self._directory / "reserve.new", 0), self._reserve)

    def _allocate(self, path: Path, needed: int) -> Path:
        """Take a segment's room, or half of it, or a quarter, … but at least `needed`.

        On a small disk segments are small from the start: only whole ones can be freed.
        """
        least = max(needed, MIN_ROOM_BYTES)
        share = disk.available(self._directory) // _SHARES
        size = max(least, min(share, self._segment_bytes))
        while True:
            try:
                os.close(disk.allocate(path, size))
            except OSError as error:
                if not disk.is_full(error) or size <= least:
                    raise
                size = max(size // 2, least)
            else:
                return path
