"""How the spool can fail its caller; all are `SpoolError`s.

SpoolError            the disk failed; a restart may find it well again
├── SpoolFullError    no room now: keep what you have and append it again later
└── SpoolLockedError  another agent works on this spool
"""

from pathlib import Path

from agent.errors import SpoolError
from agent.spool.disk import is_full


class SpoolFullError(SpoolError):
    """Nothing of the frame was kept; nothing kept before was dropped for it."""


class SpoolLockedError(SpoolError):
    """Two agents on one spool would give out the same sequences twice."""


def failed(doing: str, directory: Path, error: OSError) -> SpoolError:
    """What it means for the spool's caller that the disk refused."""
    if is_full(error):
        return SpoolFullError(f"no room for the spool in {directory}")
    return SpoolError(f"cannot {doing} {directory}: {error}")
