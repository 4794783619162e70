"""A /proc that the test writes, with numbers that no process of this machine can have."""

import shutil
from itertools import count
from pathlib import Path

TICKS = 100  # a second, as this kernel and all others count them
FIRST_PID = 5_000_000


class Processes:
    """The files of /proc that the scan reads; `uptime_s` is the machine's age."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.opened = 0
        self._pids = count(FIRST_PID)
        self._graves = count()
        (root / "sys/kernel/random").mkdir(parents=True)
        (root / "sys/kernel/random/boot_id").write_text("boot-1\n")
        self.uptime_s = 1_000

    @property
    def uptime_s(self) -> int:
        return self._uptime_s

    @uptime_s.setter
    def uptime_s(self, seconds: int) -> None:
        self._uptime_s = seconds
        (self.root / "uptime").write_text(f"{seconds}.00 1.00\n")

    def start(
        self,
        environ: dict[str, str] | None = None,
        *,
        at_s: float | None = None,
        parent: int = 1,
        uid: int = 1000,
        pid: int | None = None,
    ) -> int:
        """Have a process; it began now unless said otherwise."""
        pid = next(self._pids) if pid is None else pid
        folder = self.root / str(pid)
        folder.mkdir()
        start = round((self.uptime_s if at_s is None else at_s) * TICKS)
        self._write_stat(pid, "S", parent, start)
        (folder / "status").write_text(f"Name:\tx\nUid:\t{uid}\t0\t0\t0\n")
        pairs = "".join(f"{name}={value}\0" for name, value in (environ or {}).items())
        (folder / "environ").write_bytes(pairs.encode(errors="surrogateescape"))
        return pid

    def end(self, pid: int) -> None:
        """It is gone; its inode is never given to another one."""
        (self.root / str(pid)).rename(self.root.parent / f"gone-{next(self._graves)}")

    def become_zombie(self, pid: int) -> None:
        """It has ended, and its parent does not look."""
        self._write_stat(pid, "Z", 1, self._start_of(pid))

    def set_environ(self, pid: int, text: str) -> None:
        """What no process can do: tells whether it is read again."""
        (self.root / str(pid) / "environ").write_text(text)

    def replace_entry(self, pid: int) -> None:
        """The same process with another inode, as when the kernel was short of memory."""
        folder = self.root / str(pid)
        aside = self.root.parent / f"gone-{next(self._graves)}"
        folder.rename(aside)
        shutil.copytree(aside, folder)

    def _start_of(self, pid: int) -> int:
        return int((self.root / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])

    def _write_stat(self, pid: int, state: str, parent: int, start: int) -> None:
        tail = f"{state} {parent} 1 1 0 -1 0 0 0 0 0 5 5 0 0 20 0 1 0 {start} 0 9 0"
        (self.root / str(pid) / "stat").write_text(f"{pid} (a) b) {tail}\n")
