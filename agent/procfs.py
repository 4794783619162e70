"""Reads /proc: what a process is, whose, and what it has used.

Readers only; a process that is gone, or not for us to see, is None. Times are in clock
ticks as the kernel prints them (`TICK_US` microseconds each).
"""

# Paths as text: a Path costs several times the system call.
# ruff: noqa: PTH208

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from agent.errors import AgentError

TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")
_DEAD = frozenset({b"Z", b"X", b"x"})
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
_MAX_UPTIME_SECONDS = 1e10


class Process(NamedTuple):
    """One line of /proc/PID/stat. `start` and `pid` together never come back."""

    pid: int
    parent: int
    is_alive: bool  # False = a zombie: exited, but its parent has not looked yet
    start: int  # ticks since boot
    own_ticks: int  # its own CPU time
    child_ticks: int  # that of descendants it has waited for
    rss_kib: int


class ProcFs:
    """/proc, or a saved copy of another machine's."""

    def __init__(self, root: str = "/proc") -> None:
        """Read below `root`."""
        self._root = root

    def pids(self) -> Iterator[int]:
        """Every process, the oldest numbers first: parents mostly before their children."""
        return iter(sorted(int(name) for name in os.listdir(self._root) if name.isdecimal()))

    def process(self, pid: int) -> Process | None:
        """Read /proc/PID/stat."""
        data = self._read(f"{pid}/stat")
        return parse_stat(data) if data else None

    def is_alive(self, pid: int) -> bool:
        """Whether it exists and is more than a zombie; cheaper than `process`."""
        data = self._read(f"{pid}/stat")
        if not data or data.rpartition(b")")[2][1:2] not in _DEAD:
            return bool(data)
        process = parse_stat(data)  # its first thread may have ended before the others
        return process is not None and process.is_alive

    def owner(self, pid: int) -> int | None:
        """The real user id; the folder's owner is root's for a program that hides itself."""
        data = self._read(f"{pid}/status")
        return number_after(data, b"\nUid:") if data else None

    def pss_kib(self, pid: int) -> int | None:
        """Memory with shared pages divided among those who share: 18 ms for each GiB."""
        data = self._read(f"{pid}/smaps_rollup")
        return number_after(data, b"\nPss:") if data else None

    def cgroups(self, pid: int) -> Sequence[str]:
        """The cgroups it is in, below the root of each hierarchy; [] = it is gone."""
        data = self._read(f"{pid}/cgroup")
        lines = data.decode(errors="replace").splitlines() if data else []
        return [line.split(":", 2)[2] for line in lines if line.count(":") >= 2]

    def environ(self, pid: int) -> Mapping[str, str] | None:
        """Its environment as it was at exec; None = it is gone, or not for us to see."""
        data = self._read(f"{pid}/environ", 1 << 20)
        if data is None:
            return None
        pairs = (entry.partition(b"=") for entry in data.split(b"\0"))
        return {_text(name): _text(value) for name, equals, value in pairs if equals}

    def uptime_ms(self) -> int:
        """Time since the boot, suspension included, as process starts count it.

        Raises:
            AgentError: the file holds no such time, as only a saved tree's may.
        """
        data = self._read("uptime")
        try:
            seconds = float(data.split()[0]) if data else 0.0
        except (ValueError, IndexError):
            seconds = -1.0
        if not 0 <= seconds <= _MAX_UPTIME_SECONDS:
            message = f"{self._root}/uptime does not say how long the machine has been up"
            raise AgentError(f"{message}; save the tree anew")
        return round(seconds * 1000)

    def _read(self, name: str, size: int = 4096) -> bytes | None:
        """Read up to `size` bytes; the kernel gives a page of an environment at a time."""
        try:
            fd = os.open(f"{self._root}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return _read_all(fd, size)
        except OSError:
            return None
        finally:
            os.close(fd)


def _read_all(fd: int, size: int) -> bytes:
    data = os.read(fd, size)
    while size > 4096 and len(data) < size and (more := os.read(fd, size - len(data))):
        data += more
    return data


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def parse_stat(data: bytes) -> Process | None:
    """Read one line; the name in parentheses may hold anything, parentheses included."""
    head, _, tail = data.rpartition(b")")
    fields = tail.split()
    if len(fields) < 22:
        return None
    return Process(
        pid=int(head.partition(b"(")[0]),
        parent=int(fields[1]),
        is_alive=fields[0] not in _DEAD or int(fields[17]) > 1,
        start=int(fields[19]),
        own_ticks=int(fields[11]) + int(fields[12]),
        child_ticks=int(fields[13]) + int(fields[14]),
        rss_kib=int(fields[21]) * PAGE_KIB,
    )


def number_after(data: bytes, name: bytes) -> int | None:
    """The number that follows `name` in a file of lines; None = no such line."""
    _, found, rest = data.partition(name)
    return int(rest.split(None, 1)[0]) if found else None
