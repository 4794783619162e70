"""Welcomes connections: registers the node, opens the stream, gives it the next epoch.

Hellos are stored in groups, like batches, so that ten thousand agents that come back at
once cost few transactions. A Hello is checked before; what it says is foreign.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from aggregator.ingest.greeting import HelloError, check_hello
from aggregator.ingest.session import Identity
from aggregator.model import NodeId, StreamId
from aggregator.store.outage import Outage, meaning
from aggregator.store.pool import Pool
from aggregator.store.queries import query
from proto.metering.v1 import metering_pb2 as pb

_LOGGER: Final = logging.getLogger(__name__)
_UPSERT_NODES = query("upsert_nodes")
_OPEN_STREAMS = query("open_streams")
_GET_INCARNATION = query("get_incarnation")

_MAX_GROUP: Final = 1_000
_POOL_TIMEOUT_SECONDS: Final = 10


class CrowdedError(HelloError):
    """The node is not known, and there is no room for new ones."""

    def __init__(self, max_nodes: int) -> None:
        """Say how many there are, and where that is set."""
        super().__init__(
            f"{max_nodes} nodes are known, and no new ones are taken: raise [ingest] max_nodes"
        )


class ForeignStreamError(Exception):
    """The stream belongs to another node or machine."""


class BusyError(Exception):
    """Not now; the message says why, and `retry_after_seconds` when, where that is known."""

    retry_after_seconds: float | None = None


class UnsteadyError(BusyError):
    """The node came with too many new streams."""

    retry_after_seconds = 600.0

    def __init__(self, max_streams: int) -> None:
        """Say how many there may be, what may be wrong, and where that is set."""
        super().__init__(
            f"{max_streams} new spools of this node within a day, and no more are taken: the "
            "directory of its spool does not last, or somebody else has its certificate; "
            "[ingest] max_new_spools is the bound"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What Hellos may cost: each of these is a row."""

    nodes: int
    new_streams: int
    """Of one node within a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """What a Hello is answered with."""

    identity: Identity
    acked_through: int
    incarnation: str
    seizures: int
    """How often other streams took something over from this one."""
    acked_digest: bytes
    """Of what is durable as `acked_through`; empty where that was no batch."""
    is_fresh_spool: bool
    """The node is known and this stream of it is new."""


class _Opened(NamedTuple):
    epoch: int
    acked_through: int
    hello: int
    seizures: int
    digest: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Registered:
    nodes: Collection[str]
    """Those that have a row now; for the others there was no room."""
    welcomes: Mapping[StreamId, Welcome]
    """Of each stream that is its caller's own."""
    unsteady: Collection[StreamId]
    """The new ones for which there was no room among their node's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Caller:
    hello: pb.Hello
    stream_id: StreamId
    answer: asyncio.Future[Welcome]


class Registrar:
    """Answers Hellos; one task stores those that have come together."""

    def __init__(self, pool: Pool, bounds: Bounds) -> None:
        """Take nothing until `run`."""
        self._pool = pool
        self._bounds = bounds
        self._outage = Outage(_LOGGER, "no connection can be welcomed", "hello")
        self._callers: deque[_Caller] = deque()
        self._wake = asyncio.Event()

    async def welcome(self, hello: pb.Hello) -> Welcome:
        """Register a connection.

        Raises `HelloError`, `ForeignStreamError` or `BusyError`.
        """
        answer: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()
        self._callers.append(_Caller(hello=hello, stream_id=check_hello(hello), answer=answer))
        self._wake.set()
        return await answer

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._callers:
                await self._answer(self._collect())

    def _collect(self) -> list[_Caller]:
        """Take callers whose nodes and streams are all different; the others come next."""
        group: list[_Caller] = []
        names: set[str] = set()
        streams: set[StreamId] = set()
        while self._callers and len(group) < _MAX_GROUP:
            caller = self._callers[0]
            if caller.hello.node in names or caller.stream_id in streams:
                break
            group.append(self._callers.popleft())
            names.add(caller.hello.node)
            streams.add(caller.stream_id)
        return group

    async def _answer(self, group: Sequence[_Caller]) -> None:
        try:
            async with self._pool.connection(_POOL_TIMEOUT_SECONDS) as connection:
                registered = await _register(connection, group, self._bounds)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            await self._answer_apart(group, error)
        except psycopg.Error as error:
            self._outage.begin(error)
            _refuse(group, BusyError(str(meaning(error))))
        except Exception:
            _LOGGER.exception("no connection can be welcomed", extra={"action": "hello"})
            _refuse(group, BusyError("the aggregator's log says why"))
        else:
            self._outage.end()
            left_out = [caller for caller in group if caller.hello.node not in registered.nodes]
            _refuse(left_out, CrowdedError(self._bounds.nodes))
            unsteady = [caller for caller in group if caller.stream_id in registered.unsteady]
            _refuse(unsteady, UnsteadyError(self._bounds.new_streams))
            _hand_out(group, registered.welcomes)

    async def _answer_apart(self, group: Sequence[_Caller], error: psycopg.Error) -> None:
        """Store each Hello by itself: one that is refused is not to cost the others theirs."""
        if len(group) > 1:
            for caller in group:
                await self._answer([caller])
            return
        _LOGGER.error(
            "the database refused a Hello",
            extra={"action": "hello", "node": group[0].hello.node, "error": str(error)},
        )
        _refuse(group, HelloError("the database refuses what this Hello says"))


def _hand_out(group: Sequence[_Caller], welcomes: Mapping[StreamId, Welcome]) -> None:
    for caller in group:
        welcome = welcomes.get(caller.stream_id)
        if welcome is None:
            _refuse([caller], ForeignStreamError())
        elif not caller.answer.done():
            caller.answer.set_result(welcome)


def _refuse(group: Sequence[_Caller], error: Exception) -> None:
    for caller in group:
        if not caller.answer.done():
            caller.answer.set_exception(error)


async def _register(
    connection: AsyncConnection[TupleRow], callers: Sequence[_Caller], bounds: Bounds
) -> _Registered:
    """Give the welcome of each caller that there is room for and whose stream is its own."""
    async with connection.transaction(), connection.cursor() as cursor:
        columns = _node_columns([caller.hello for caller in callers])
        await cursor.execute(_UPSERT_NODES, {**columns, "max_nodes": bounds.nodes})
        found = await cursor.fetchall()
        nodes = {name: NodeId(node_id) for name, node_id, _ in found}
        group = [caller for caller in callers if caller.hello.node in nodes]
        known = {name for name, _, is_known in found if is_known}
        await cursor.execute(
            _OPEN_STREAMS,
            {
                "stream_ids": [caller.stream_id for caller in group],
                "node_ids": [nodes[caller.hello.node] for caller in group],
                "machine_ids": [caller.hello.machine_id for caller in group],
                "max_streams": bounds.new_streams,
            },
        )
        rows = await cursor.fetchall()
        unsteady = {StreamId(stream_id) for stream_id, has_room, *_ in rows if not has_room}
        opened = {StreamId(row[0]): _Opened(*row[2:]) for row in rows if row[2] is not None}
        await cursor.execute(_GET_INCARNATION)
        row = await cursor.fetchone()
        assert row is not None
    welcomes = {
        caller.stream_id: Welcome(
            identity=Identity(
                stream_id=caller.stream_id,
                epoch=opened[caller.stream_id].epoch,
                hello=opened[caller.stream_id].hello,
                node_id=nodes[caller.hello.node],
                node=caller.hello.node,
                cluster=caller.hello.cluster,
                address=caller.hello.address,
            ),
            acked_through=opened[caller.stream_id].acked_through,
            incarnation=row[0],
            seizures=opened[caller.stream_id].seizures,
            acked_digest=opened[caller.stream_id].digest or b"",
            is_fresh_spool=caller.hello.node in known and opened[caller.stream_id].epoch == 1,
        )
        for caller in group
        if caller.stream_id in opened
    }
    return _Registered(nodes=nodes.keys(), welcomes=welcomes, unsteady=unsteady)


def _node_columns(hellos: Sequence[pb.Hello]) -> dict[str, list[str] | list[int]]:
    return {
        "names": [hello.node for hello in hellos],
        "clusters": [hello.cluster for hello in hellos],
        "addresses": [hello.address for hello in hellos],
        "boot_ids": [hello.boot_id for hello in hellos],
        "machine_ids": [hello.machine_id for hello in hellos],
        "agent_versions": [hello.agent_version for hello in hellos],
        "cpu_ms": [hello.capacity.cpu_m for hello in hellos],
        "mem_kibs": [hello.capacity.mem_kib for hello in hellos],
        "cpu_models": [hello.capacity.cpu_model for hello in hellos],
        "devices": [_devices(hello) for hello in hellos],
    }


def _devices(hello: pb.Hello) -> str:
    return json.dumps(
        [
            {"type": each.type, "id": each.id, "model": each.model}
            for each in hello.capacity.devices
        ],
        ensure_ascii=False,
    )
