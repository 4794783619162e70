"""What happened to the spool since the start, for whoever exposes it."""

from dataclasses import dataclass


@dataclass(slots=True)
class SpoolCounters:
    """Counts only go up."""

    appended_frames: int = 0
    appended_bytes: int = 0
    damages: int = 0
    deleted_segments: int = 0
    replaced_segments: int = 0
    full_errors: int = 0
    mark_errors: int = 0
    refused_frames: int = 0
