"""How the spool can fail its caller; all are `SpoolError`s.

SpoolError            the disk failed; a restart may find it well again
├── SpoolFullError    no room now: keep what you have and append it again later
└── SpoolLockedError  another agent works on this spool
"""

from agent.errors import SpoolError


class SpoolFullError(SpoolError):
    """Nothing of the frame was kept; nothing kept before was dropped for it."""


class SpoolLockedError(SpoolError):
    """Two agents on one spool would give out the same sequences twice."""
