"""Whether this `exec` runs inside the job of another one, by more than a variable's word.

NODEMETER_JOB_ID names the outer job; its file is held locked by the `exec` that runs it, and
the kernel knows which process that is: it must be above us.
"""

# Paths as text, since every import delays the command.

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping

_FLOCK = "hhqqi4x"
"""struct flock: l_type, l_whence, l_start, l_len, l_pid."""


class Outer:
    """The job that we are in; `is_tree` = it is its processes, ours included."""

    def __init__(self, job_id: str, *, is_tree: bool) -> None:
        """Take what its file says."""
        self.job_id = job_id
        self.is_tree = is_tree


def find_outer(directory: str, environ: Mapping[str, str]) -> Outer | None:
    """The job of this jobs directory that this process is in; None = there is none."""
    job_id = environ.get("NODEMETER_JOB_ID", "")
    if not job_id or "/" in job_id:
        return None
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(f"{directory}/{job_id}.json", flags)
    except (OSError, ValueError):
        return None
    try:
        holder, data = _holder(fd), os.read(fd, 1 << 16)
    except OSError:
        return None
    finally:
        os.close(fd)
    if holder not in _ancestors():
        return None
    return Outer(job_id, is_tree=b'"cgroup": "' not in data)  # a quote within a text is escaped


def _holder(fd: int) -> int:
    """The process that holds a lock on the file; 0 = none of those that we can see."""
    import struct  # noqa: PLC0415  needed only within a job

    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    told: tuple[int, ...] = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    return told[4] if told[0] != fcntl.F_UNLCK else 0


def _ancestors() -> Iterator[int]:
    """Our parent, its parent, and so on up to the first process that we can see."""
    from agent.procfs import ProcFs  # noqa: PLC0415  as above

    procfs, pid = ProcFs(), os.getppid()
    while pid > 0:
        yield pid
        process = procfs.process(pid)
        pid = process.parent if process else 0
