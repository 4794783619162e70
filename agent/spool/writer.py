"""Writes frames into the newest segment, and begins the next one when it must."""

import threading
from pathlib import Path

from agent.spool import disk
from agent.spool.counters import SpoolCounters
from agent.spool.room import Room
from agent.spool.segment import SEGMENT_HEADER_BYTES, SUFFIX, Segment
from agent.spool.segments import Segments


class Writer:
    """The end of a stream at which it grows. `lock` keeps readers of `segments` out."""

    def __init__(
        self,
        *,
        directory: Path,
        stream_id: bytes,
        segments: Segments,
        room: Room,
        lock: threading.Lock,
        counters: SpoolCounters,
    ) -> None:
        """Go on in the newest segment, but never after damage."""
        newest = segments.newest
        self._active = newest if newest and not newest.damages else None
        self._directory = directory
        self._stream_id = stream_id
        self._segments = segments
        self._room = room
        self._lock = lock
        self._counters = counters

    def write(self, frame: bytes, sequence: int) -> Segment:
        """Make a frame durable; adding it to the segment returned is left to the caller.

        Raises:
            OSError: it is nowhere. If no room was the reason, try again when there is.
        """
        segment = self._active
        if segment is None or not segment.has_room(len(frame)):
            segment = self._begin(len(frame), sequence)
        try:
            segment.write(frame)
        except OSError as error:
            if disk.is_full(error):
                raise
            segment.seal()
            self._active = None
            self._counters.replaced_segments += 1
            segment = self._begin(len(frame), sequence)
            segment.write(frame)
        return segment

    def _begin(self, length: int, sequence: int) -> Segment:
        """Begin a segment with room for the frame that is to be its first."""
        room = self._room.take(SEGMENT_HEADER_BYTES + length)
        path = self._directory / f"{sequence:020}{SUFFIX}"
        full = self._active
        with self._lock:
            self._segments.discard(path)  # begun before for this frame, and of no use
            disk.rename(room, path)
            self._active = Segment.create(path, self._stream_id, sequence)
            self._segments.add(self._active)
        if full and full.sequences:
            full.seal()
        self._room.keep_reserve()
        return self._active
