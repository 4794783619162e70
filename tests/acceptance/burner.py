"""A job of known cost: burns two fifths of a core, then prints what the kernel counted for it.

Run as `burner.py SECONDS [MEBIBYTES [FILE]]`; it ends earlier once there is FILE. On its
last line it prints one JSON object:
`cpu_usec` (own cgroup's counter where it sits in a cgroup named nodemeter, else the
process's rusage) and `lived_seconds`, since the fork that made it, as the kernel tells.
Standard library only, since it runs as a user's job.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
WORK_SECONDS, REST_SECONDS = 0.02, 0.03


def cgroup_cpu_usec() -> int | None:
    """CPU time of the cgroup below `nodemeter` that holds this process, or None."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if not path.startswith("/nodemeter/"):
            continue
        if "cpuacct" in controllers.split(","):
            base = next(p for p in CGROUP_ROOT.iterdir() if "cpuacct" in p.name.split(","))
            return int((base / path[1:] / "cpuacct.usage").read_text()) // 1000
        if controllers == "":
            for root in (CGROUP_ROOT, CGROUP_ROOT / "unified"):
                stat = root / path[1:] / "cpu.stat"
                if stat.exists():
                    return int(stat.read_text().split()[1])
    return None


def own_cpu_usec() -> int:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return round((usage.ru_utime + usage.ru_stime) * 1_000_000)


def lived_seconds() -> float:
    """Time since this process was forked: the kernel notes it in ticks since the boot."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    forked = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - forked


def burn(seconds: float, told: Path | None) -> None:
    """Leave some of the machine to those who test beside us."""
    started = time.monotonic()
    while time.monotonic() - started < seconds and not (told and told.exists()):
        worked = time.process_time()
        while time.process_time() - worked < WORK_SECONDS:
            sum(range(10_000))
        time.sleep(REST_SECONDS)


def main() -> None:
    seconds, mebibytes = float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    held = bytearray(mebibytes << 20)
    for page in range(0, len(held), 4096):
        held[page] = 1
    burn(seconds, Path(sys.argv[3]) if len(sys.argv) > 3 else None)
    counter = cgroup_cpu_usec()
    report = {
        "cpu_usec": own_cpu_usec() if counter is None else counter,
        "in_cgroup": counter is not None,
        "lived_seconds": lived_seconds(),
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
