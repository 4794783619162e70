"""The peer of the agent's figures: Debian's prometheus-node-exporter on this machine.

Downloaded by apt and unpacked, not installed. It tells nothing of jobs, so its scrape is
the least that a look at a node costs elsewhere.
"""

import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

from tests.acceptance.product import free_port, until

PACKAGE = "prometheus-node-exporter"
SCRAPES = 30


class Exporter(NamedTuple):
    """CPU time of one scrape, and what it holds."""

    scrape_ms: float
    resident_mib: float


def measure_exporter(folder: Path) -> Exporter | None:
    """Scrape it `SCRAPES` times; None = this machine has no apt, or no such package."""
    binary = _fetch(folder / "exporter")
    if binary is None:
        return None
    url = f"127.0.0.1:{free_port()}"
    with (folder / "exporter.log").open("wb") as log:
        process = subprocess.Popen(
            [str(binary), f"--web.listen-address={url}"], stdout=log, stderr=log
        )
    try:
        until("the node exporter", lambda: _scrape(url), seconds=30)
        before = _cpu_seconds(process.pid)
        for _ in range(SCRAPES):
            _scrape(url)
            time.sleep(0.1)
        used = _cpu_seconds(process.pid) - before
        status = Path(f"/proc/{process.pid}/status").read_text()
    finally:
        process.kill()
        process.wait()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return Exporter(used / SCRAPES * 1000, int(line.split()[1]) / 1024)


def _fetch(folder: Path) -> Path | None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return None
    folder.mkdir()
    command = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", PACKAGE]
    if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode:
        return None
    (package,) = folder.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)
    return folder / "usr" / "bin" / PACKAGE


def _scrape(url: str) -> bool:
    try:
        with urlopen(f"http://{url}/metrics", timeout=5) as answer:
            return b"node_cpu_seconds_total" in answer.read()
    except URLError:
        return False


def _cpu_seconds(pid: int) -> float:
    """User and system time of all its threads, in ns: ticks are too coarse for a scrape."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
