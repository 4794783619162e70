"""A node that only sends: the agent's own spool and uplink, fed with known content.

Run as `streamer.py FOLDER` with the settings as JSON in FOLDER/recipe.json. Like the agent
it keeps where it is in the checkpoint of each frame, so it may be killed at any instant and
goes on exactly there. FOLDER/told says how many frames it has told; when FOLDER/goal names a
job, that one is its last, told without pause: once all is acked it makes FOLDER/done, and
ends.
"""

import json
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from agent.spool import Spool
from agent.uplink import Uplink
from agent.uplink.identity import Identity
from agent.uplink.terms import Pace
from tests.faults.content import Recipe

_KEEP_MS = 86_400_000
_PRUNED_EVERY = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What it is told at its start."""

    recipe: Recipe
    target: str
    interval_seconds: float
    address: str = "10.0.0.9"


def save(orders: Orders, folder: Path) -> None:
    """Write the orders for a streamer of that folder."""
    recipe = orders.recipe
    document = {
        "seed": recipe.seed,
        "node": recipe.node,
        "base_ms": recipe.base_ms,
        "gpus": recipe.gpus,
        "target": orders.target,
        "interval_seconds": orders.interval_seconds,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps(document))


def _load(folder: Path) -> Orders:
    document = json.loads((folder / "recipe.json").read_text())
    recipe = Recipe(**{key: document[key] for key in ("seed", "node", "base_ms", "gpus")})
    return Orders(
        recipe=recipe,
        target=document["target"],
        interval_seconds=document["interval_seconds"],
    )


def _identity(orders: Orders) -> Identity:
    return Identity(
        node=orders.recipe.node,
        cluster="faults",
        address=orders.address,
        boot_id="b",
        machine_id="",
        agent_version="0",
        cpu_m=64_000,
        mem_kib=1 << 30,
        cpu_model="EPYC",
    )


class Streamer:
    """See the module."""

    def __init__(self, folder: Path) -> None:
        """Open the spool and go on from its checkpoint."""
        self._folder = folder
        self._orders = _load(folder)
        self._stopping = threading.Event()
        self._spool = Spool(folder / "spool", segment_bytes=1 << 20, retention_ms=_KEEP_MS)
        self._told = int(self._spool.recovered.checkpoint or b"0")
        self._uplink = Uplink(
            self._orders.target,
            _identity(self._orders),
            self._spool,
            pace=Pace(base_seconds=0.1, cap_seconds=1),
        )

    def run(self) -> None:
        """Tell frame after frame until the goal, or SIGTERM."""
        signal.signal(signal.SIGTERM, self._on_signal)
        self._uplink.start()
        while not self._stopping.is_set() and not self._is_done():
            goal = self._goal()
            self._tell(is_last=self._told == goal)
            self._stopping.wait(self._orders.interval_seconds if goal is None else 0)
        while not self._stopping.is_set() and not self._is_drained():
            self._stopping.wait(0.05)
        self._uplink.stop()
        if self._is_done() and self._is_drained():
            (self._folder / "done").touch()
        self._spool.close()

    def _tell(self, *, is_last: bool) -> None:
        if self._uplink.lost_stream is not None:
            sys.exit(f"the stream was given up: {self._uplink.lost_stream}")
        number = self._told + 1
        batch = self._orders.recipe.frame(number, is_last=is_last)
        batch.sequence = self._spool.last_sequence + 1
        at_ms = self._orders.recipe.base_ms + number
        self._spool.append(batch.SerializeToString(deterministic=True), str(number).encode(), at_ms)
        self._told = number
        new = self._folder / "told.new"
        new.write_text(str(number))
        new.rename(self._folder / "told")  # whoever reads it finds a number
        self._uplink.wake()
        if number % _PRUNED_EVERY == 0:
            self._spool.prune(at_ms)

    def _goal(self) -> int | None:
        try:
            return int((self._folder / "goal").read_text())
        except FileNotFoundError:
            return None

    def _is_done(self) -> bool:
        goal = self._goal()
        return goal is not None and self._told > goal

    def _is_drained(self) -> bool:
        return self._spool.acked_through >= self._spool.last_sequence

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping.set()


if __name__ == "__main__":
    Streamer(Path(sys.argv[1])).run()
