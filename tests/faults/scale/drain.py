"""Nodes with a backlog in one process: the product's own spools and uplinks.

`python -m tests.faults.scale.drain PORT FOLDER FIRST COUNT MINUTES RUNS START_MS` makes the
spools of the nodes number FIRST to FIRST + COUNT - 1 below FOLDER, each with a frame of
MINUTES minutes, and says so by a line. It connects at the next line that it reads. Each
further line has every node append a frame, the fresh one; at the end of its input it waits
until all is acked and prints, by node, when it began, when what it had then was acked, and
how long each fresh frame took. Instants are of the monotonic clock, which all processes share.
"""

import json
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from agent.spool import Spool
from agent.uplink import Uplink
from agent.uplink.identity import Identity
from tests.faults.scale.frames import frame

_LOOK_SECONDS = 0.05
_YEAR_MS = 365 * 86_400_000


@dataclass(slots=True, kw_only=True)
class Story:
    """What is told of a node."""

    node: str
    began_at: float = 0.0
    drained_at: float = 0.0
    fresh_seconds: list[float] = field(default_factory=list[float])


class Node:
    """A spool with its uplink; see the module."""

    def __init__(self, name: str, folder: Path, port: int, frames: list[bytes]) -> None:
        self.story = Story(node=name)
        self.spool = Spool(folder / name, segment_bytes=8 << 20, retention_ms=_YEAR_MS)
        for each in frames:
            self.append(each)
        self._held = len(frames)
        self._fresh: list[tuple[int, float]] = []
        identity = Identity(
            node=name,
            cluster="scale",
            address="10.0.0.1",
            boot_id="boot",
            machine_id=name,
            agent_version="0",
            cpu_m=64_000,
            mem_kib=1 << 28,
            cpu_model="EPYC",
        )
        self.uplink = Uplink(f"127.0.0.1:{port}", identity, self.spool)

    def append(self, content: bytes) -> None:
        """Make a frame durable."""
        self.spool.append(content, b"", 1)

    def start(self) -> None:
        """Connect."""
        self.story.began_at = time.monotonic()
        self.uplink.start()

    def append_fresh(self, content: bytes) -> None:
        """Append while the backlog drains."""
        self.append(content)
        self._fresh.append((self.spool.last_sequence, time.monotonic()))
        self.uplink.wake()

    def look(self) -> bool:
        """Note what was acked since; whether all is."""
        now, acked = time.monotonic(), self.spool.acked_through
        if not self.story.drained_at and self.story.began_at and acked >= self._held:
            self.story.drained_at = now
        while self._fresh and self._fresh[0][0] <= acked:
            self.story.fresh_seconds.append(now - self._fresh.pop(0)[1])
        return acked == self.spool.last_sequence


def main() -> None:
    """Play."""
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    first, count, minutes, runs, start_ms = (int(word) for word in sys.argv[3:8])
    backlog = [frame("scale", number, start_ms, runs=runs) for number in range(1, minutes + 1)]
    nodes = [Node(f"node-{n}", folder, port, backlog) for n in range(first, first + count)]
    print("ready", flush=True)
    sys.stdin.readline()
    for each in nodes:
        each.start()
    is_over = threading.Event()
    watching = threading.Thread(target=watch, args=(nodes, is_over))
    watching.start()
    sequence = minutes
    while sys.stdin.readline():
        sequence += 1
        content = frame("scale", sequence, start_ms, runs=runs)
        for each in nodes:
            each.append_fresh(content)
    is_over.set()
    watching.join()
    print(json.dumps([asdict(each.story) for each in nodes]), flush=True)
    for each in nodes:
        each.uplink.stop()
        each.spool.close()


def watch(nodes: list[Node], is_over: threading.Event) -> None:
    """Look at all until the end was announced and everything is acked."""
    while True:
        is_last = is_over.is_set()
        is_done = [each.look() for each in nodes]
        if is_last and all(is_done):
            return
        time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    main()
