"""Faults at random instants of a run, chosen by a seed; each strike ends recovered.

A kill falls at one of several points, and always with batches between send and ack: the
proxy holds the link when one is there, so nothing can be answered between the look and the
kill. What was on its way then is lost with the connection, or still arrives.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Protocol, assert_never

from proto.metering.v1 import metering_pb2 as pb
from tests.faults.processes import Rig
from tests.faults.proxy import Proxy, Side
from tests.faults.wiretap import Word

_CATCH_SECONDS = 60.0
_RECOVERY_SECONDS = 90.0


class Victim(Protocol):
    """What can be killed and started again."""

    @property
    def name(self) -> str:
        """For the report."""
        ...

    def kill(self) -> None:
        """Kill -9."""
        ...

    def start(self) -> None:
        """Bring it back."""
        ...


class Kind(StrEnum):
    """Who is killed."""

    AGENT = "agent"
    STREAMER = "streamer"
    AGGREGATOR = "aggregator"
    DATABASE = "PostgreSQL"


class Point(StrEnum):
    """When a kill falls."""

    BATCH = "a batch has come and not gone on"
    ACK = "an ack is on its way back"
    COMMIT = "a commit is asked for"
    COMMITTED = "a commit is done and not told"
    ANYWHERE = "some batch is on its way"


_NODE_POINTS = (Point.BATCH, Point.ACK, Point.ANYWHERE)
_POINTS = {
    Kind.AGENT: _NODE_POINTS,
    Kind.STREAMER: _NODE_POINTS,
    Kind.AGGREGATOR: tuple(Point),
    Kind.DATABASE: (Point.BATCH, Point.COMMIT, Point.COMMITTED, Point.ANYWHERE),
}
_LOTS = (*(2 * (Kind.AGENT, Kind.AGGREGATOR, Kind.DATABASE)), Kind.STREAMER)


@dataclass(kw_only=True)
class Strikes:
    """What was done to a rig, and how long it took to come back."""

    rig: Rig
    random: Random
    loses: bool | None = None
    """Whether what is on its way at a kill is lost with it; None = one time in two."""
    kills: Counter[Kind] = field(default_factory=Counter[Kind])
    proven: Counter[Kind] = field(default_factory=Counter[Kind])
    """Kills with batches in flight."""
    points: Counter[Point] = field(default_factory=Counter[Point])
    disturbances: Counter[str] = field(default_factory=Counter[str])
    recovery_seconds: list[float] = field(default_factory=list[float])

    def kill_somebody(self, kind: Kind | None = None) -> None:
        """Kill a random process (of that kind) at a random point; see it back and at work."""
        self.kill(kind or self.random.choice(_LOTS))

    @property
    def product_kills(self) -> int:
        """Kills of the agent, the aggregator and PostgreSQL."""
        return self.kills.total() - self.kills[Kind.STREAMER]

    def kill(self, kind: Kind, point: Point | None = None) -> None:
        """Kill one of that kind, at that point or a random one."""
        victim, node = self._choose(kind)
        point = point or self.random.choice(_POINTS[kind])
        deadline = time.monotonic() + _CATCH_SECONDS
        while not self._kill_if_in_flight(victim, kind, point, node):
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing on its way to kill {victim.name} when {point}")
        self.points[point] += 1

    def disturb(self) -> None:
        """Do something to one of the links, and let all go on after it."""
        link = self.random.choice([self.rig.link, self.rig.database_link])
        side = self.random.choice(list(Side))
        seconds = self.random.uniform(0.1, 1.0)
        name, act = self.random.choice(_disturbances(link, side, seconds))
        marks = self.rig.traffic.marks()
        act()
        self.rig.traffic.wait_past(marks, seconds=_RECOVERY_SECONDS)
        self.disturbances[name] += 1

    # Kills -------------------------------------------------------------------------------

    def _choose(self, kind: Kind) -> tuple[Victim, str | None]:
        """Choose the victim, and the node whose batches must be on their way: its own, or any."""
        match kind:
            case Kind.AGENT:
                agent = self.random.choice(self.rig.agents)
                return agent, agent.name
            case Kind.STREAMER:
                streamer = self.random.choice(self.rig.streamers)
                return streamer, streamer.name
            case Kind.AGGREGATOR:
                return self.rig.aggregator, None
            case Kind.DATABASE:
                return self.rig.database, None
            case _:
                assert_never(kind)

    def _kill_if_in_flight(
        self, victim: Victim, kind: Kind, point: Point, node: str | None
    ) -> bool:
        """Wait for the point, and kill if batches are on their way just then."""
        traffic = self.rig.traffic
        with self._standstill(point, node):
            in_flight, marks = traffic.in_flight(node), traffic.marks()
            if not in_flight:
                return False
            began = time.monotonic()
            victim.kill()
            if self.loses or (self.loses is None and self.random.random() < 0.5):
                self.rig.link.cut()
                self.rig.database_link.cut()
        victim.start()
        self.kills[kind] += 1
        self.proven[kind] += 1
        traffic.wait_past(marks, node=node, seconds=_RECOVERY_SECONDS)
        self.recovery_seconds.append(time.monotonic() - began)
        return True

    @contextmanager
    def _standstill(self, point: Point, node: str | None) -> Generator[None]:
        """Let nothing pass from that point on, on either link, until the end of the block."""
        link = self.rig.database_link if "commit" in point.value else self.rig.link
        if point is Point.ANYWHERE:
            _pause(self.random.uniform(0, 0.05))
            link.hold()
            try:
                yield
            finally:
                link.release()
            return
        with link.catching(self._wanted(point, node)) as caught:
            caught.wait(_CATCH_SECONDS)
            self.rig.link.hold()
            try:
                yield
            finally:
                self.rig.link.release()

    def _wanted(self, point: Point, node: str | None) -> Callable[[Side, object], bool]:
        """What is said at that point."""

        def is_wanted(_side: Side, said: object) -> bool:
            if not self.rig.traffic.in_flight(node):
                return False
            match said:
                case Word():
                    return said.name == point.name
                case pb.AgentMessage():
                    return point is Point.BATCH and said.HasField("batch")
                case pb.AggregatorMessage():
                    return point is Point.ACK and said.HasField("ack")
                case _:
                    return False

        return is_wanted


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def _disturbances(
    link: Proxy, side: Side, seconds: float
) -> list[tuple[str, Callable[[], object]]]:
    """What can happen to a link."""

    def delay() -> None:
        link.delay(seconds / 5, side)
        _pause(seconds)
        link.delay(0)

    def hold() -> None:
        link.hold(side)
        _pause(seconds)
        link.release()

    def black_hole() -> None:
        link.swallow()
        _pause(seconds)
        link.swallow(is_on=False)

    def half_close() -> None:
        link.half_close(side)
        _pause(seconds)
        link.cut()

    def refuse() -> None:
        link.refuse()
        _pause(seconds)
        link.refuse(is_on=False)

    return [
        ("delay", delay),
        ("hold", hold),
        ("black hole", black_hole),
        ("half close", half_close),
        ("refuse", refuse),
        ("cut", link.cut),
    ]
