"""Processes of `tests.faults.scale.drain`, told what to do and asked how it went."""

import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Self

import psycopg
from psycopg.rows import TupleRow
from pydantic import TypeAdapter

from aggregator.clock import to_ms, utc_now
from tests.acceptance.product import CHECKOUT
from tests.faults.scale.aggregators import Aggregator
from tests.faults.scale.drain import Story
from tests.faults.scale.frames import WINDOW_MS, used_of

STORIES = TypeAdapter(list[Story])


@dataclass(kw_only=True)
class Backlogs:
    """`count` nodes, number `first` and following, with frames of `minutes` minutes each."""

    port: int
    folder: Path
    env: dict[str, str]
    start_ms: int
    first: int
    count: int
    minutes: int
    runs: int
    processes: int = 1
    _running: list[subprocess.Popen[str]] = field(default_factory=list["subprocess.Popen[str]"])

    def __enter__(self) -> Self:
        """Make the spools; nothing is connected yet."""
        share = -(-self.count // self.processes)
        for first in range(self.first, self.first + self.count, share):
            count = min(share, self.first + self.count - first)
            words = (self.port, self.folder, first, count, self.minutes, self.runs, self.start_ms)
            self._running.append(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.faults.scale.drain", *map(str, words)],
                    cwd=CHECKOUT,
                    env=self.env,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        for each in self._running:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        return self

    def say(self) -> None:
        """Connect, the first time; then append a fresh frame to each."""
        for each in self._running:
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()

    def finish(self) -> list[Story]:
        """Wait until everything is acked."""
        stories: list[Story] = []
        for each in self._running:
            assert each.stdin is not None
            each.stdin.close()
        for each in self._running:
            assert each.stdout is not None
            stories += STORIES.validate_json(each.stdout.read())
            assert each.wait() == 0
            each.stdout.close()
            each.stdin = each.stdout = None
        return stories

    def __exit__(self, *_error: object) -> None:
        """End them, whatever they do."""
        for each in self._running:
            each.kill()
            each.communicate()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """How it went: seconds, the longest of all nodes."""

    seconds: float
    fresh_seconds: float
    """Of frames appended meanwhile by nodes with a backlog."""
    bystander_seconds: float
    """Of frames appended meanwhile by nodes without one."""
    rounds: int
    """So many frames each node appended meanwhile."""


def backlogs_of(
    aggregator: Aggregator, folder: Path, *, first: int, count: int, minutes: int, runs: int
) -> Backlogs:
    """Nodes whose last frame is of an hour ago."""
    now_ms = to_ms(utc_now() - timedelta(hours=1)) // WINDOW_MS * WINDOW_MS
    return Backlogs(
        port=aggregator.grpc_port,
        folder=folder,
        env=aggregator.env,
        start_ms=now_ms - minutes * WINDOW_MS,
        first=first,
        count=count,
        minutes=minutes,
        runs=runs,
        processes=min(4, -(-count // 10)),
    )


def drain(aggregator: Aggregator, nodes: Backlogs, bystanders: Backlogs, every: float) -> Drained:
    """Let `nodes` drain, and all append every so many seconds meanwhile.

    `bystanders` have no backlog. `aggregator` is theirs alone.
    """
    goal = aggregator.metric("batches_total") + nodes.count * nodes.minutes
    bystanders.say()
    nodes.say()
    began, rounds = time.monotonic(), 0
    while not rounds or aggregator.metric("batches_total") < goal:
        nodes.say()
        bystanders.say()
        rounds += 1
        time.sleep(every)
    theirs, others = nodes.finish(), bystanders.finish()
    return Drained(
        seconds=max(each.drained_at for each in theirs) - began,
        fresh_seconds=max(second for each in theirs for second in each.fresh_seconds),
        bystander_seconds=max(second for each in others for second in each.fresh_seconds),
        rounds=rounds,
    )


def count_stored(connection: psycopg.Connection[TupleRow]) -> dict[str, tuple[int, int, int]]:
    """By node: frames, records, and base units x ms used, as the database holds them."""
    frames = connection.execute(
        "SELECT name, count(*), min(sequence), max(sequence), sum(record_count) FROM batch"
        " JOIN stream USING (stream_id) JOIN node USING (node_id) GROUP BY name"
    ).fetchall()
    assert all(first == 1 and last == count for _, count, first, last, _ in frames)
    rows = connection.execute(
        "SELECT name, count(*), sum(used) FROM usage JOIN meter USING (meter_id)"
        " JOIN run USING (run_id) JOIN node USING (node_id) GROUP BY name"
    ).fetchall()
    used = {name: (int(count), int(total)) for name, count, total in rows}
    assert {name: records for name, _, _, _, records in frames} == {
        name: count for name, (count, _) in used.items()
    }
    return {name: (int(count), *used[name]) for name, count, *_ in frames}


def expected(frames: int, runs: int) -> tuple[int, int, int]:
    """What the database is to hold of a node with so many frames."""
    used = sum(used_of(sequence) for sequence in range(1, frames + 1))
    return frames, 2 * runs * frames, 2 * runs * used


def all_of(nodes: Backlogs, drained: Drained) -> dict[str, tuple[int, int, int]]:
    """What the database is to hold of each of them."""
    each = expected(nodes.minutes + drained.rounds, nodes.runs)
    return {f"node-{nodes.first + number}": each for number in range(nodes.count)}
