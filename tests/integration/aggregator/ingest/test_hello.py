"""Who may connect, and what a Hello is answered with."""

import asyncio
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import TupleRow

from aggregator.clock import utc_now
from aggregator.errors import PortTakenError
from aggregator.ingest.greeting import HelloError
from aggregator.ingest.hello import Bounds, Registrar, UnsteadyError, Welcome
from aggregator.ingest.server import IngestServer
from aggregator.metrics import Metrics
from aggregator.settings import GrpcSettings, Settings
from aggregator.store.pool import Pool
from proto.metering.v1 import metering_pb2 as pb
from tests.integration.aggregator.agents import Spool, connected

Database = psycopg.Connection[TupleRow]


async def test_a_node_is_registered_with_what_it_said(
    ingest: IngestServer, database: Database
) -> None:
    """And again with what it says later."""
    spool = Spool()
    hello = spool.hello()
    hello.capacity.devices.add(type="gpu", id="GPU-1", model="NVIDIA H200")
    async with connected(ingest.port) as client:
        await client.say(hello)
        answer = await client.receive()
    assert answer is not None
    assert answer.welcome.epoch == 1
    assert answer.welcome.max_message_bytes == 4 << 20
    assert answer.welcome.incarnation.count("-") == 1
    row = database.execute("SELECT name, address, cpu_m, devices FROM node").fetchone()
    assert row == (
        "n1", "10.0.0.7", 8000, [{"type": "gpu", "id": "GPU-1", "model": "NVIDIA H200"}],
    )  # fmt: skip
    hello.address = "fd00::1"
    async with connected(ingest.port) as client:
        await client.say(hello)
        await client.receive()
    assert database.execute("SELECT address FROM node").fetchall() == [("fd00::1",)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("node", ""),
        ("node", "a\0b"),
        ("node", "x" * 257),
        ("cluster", "a\nb"),
        ("address", "not-an-address"),
        ("address", ""),
        ("address", "fe80::1%eth0"),
        ("address", "fe80::1%\x1b[31m"),
        ("address", "fe80::1%a\0b"),
        ("address", "fe80::1%" + "x" * 100_000),
        ("address", "10.0.0.7\n"),
        ("agent_version", "1\x9b"),
        ("incarnation", "\0"),
        ("incarnation", "x" * 257),
        ("boot_id", "\x00"),
        ("machine_id", "\x1b"),
        ("stream_id", b"short"),
        ("stream_id", b"\0" * 17),
    ],
)
async def test_a_hello_that_breaks_a_rule_is_refused_with_the_reason(
    ingest: IngestServer, database: Database, field: str, value: str | bytes
) -> None:
    """And leaves no row."""
    hello = Spool().hello()
    setattr(hello, field, value)
    async with connected(ingest.port) as client:
        await client.say(hello)
        refusal = await client.rejected()
        assert refusal.reason == pb.Reject.REASON_INVALID
        assert refusal.detail
        assert await client.receive() is None
    assert database.execute("SELECT count(*) FROM node").fetchone() == (0,)


@pytest.mark.parametrize("text", ["a\0b", "x" * 257, "\x1b[31m"])
@pytest.mark.parametrize("field", ["cpu_model", "type", "id", "model"])
async def test_a_capacity_in_words_that_break_a_rule_is_refused(
    ingest: IngestServer, database: Database, field: str, text: str
) -> None:
    """A device's, too; the refusal says which."""
    hello = Spool().hello()
    described = hello.capacity if field == "cpu_model" else hello.capacity.devices.add()
    setattr(described, field, text)
    async with connected(ingest.port) as client:
        await client.say(hello)
        refusal = await client.rejected()
    assert refusal.reason == pb.Reject.REASON_INVALID
    assert field in refusal.detail
    assert database.execute("SELECT count(*) FROM node").fetchone() == (0,)


async def test_a_hello_that_the_database_refuses_costs_no_other_its_welcome(
    pool: Pool, database: Database
) -> None:
    """They are stored together; should our checks miss something, it is told apart."""
    database.execute("ALTER TABLE node ADD CHECK (name <> 'evil')")
    names = [*(f"n{number}" for number in range(5)), "evil", "n5"]
    registrar = Registrar(pool, Bounds(nodes=100, new_streams=100))
    hellos = [asyncio.create_task(registrar.welcome(Spool(node=name).hello())) for name in names]
    runs = asyncio.create_task(registrar.run())  # after all have said theirs
    try:
        answers = await asyncio.gather(*hellos, return_exceptions=True)
    finally:
        runs.cancel()
    welcomed = [name for name, one in zip(names, answers, strict=True) if isinstance(one, Welcome)]
    assert welcomed == [name for name in names if name != "evil"]
    assert isinstance(answers[names.index("evil")], HelloError)
    assert database.execute("SELECT count(*) FROM node").fetchone() == (6,)


async def test_many_names_make_no_more_rows_than_there_is_room_for(
    pool: Pool, database: Database
) -> None:
    """Whoever is known is welcome; whoever comes with another name is told of the bound."""
    registrar = Registrar(pool, Bounds(nodes=3, new_streams=100))
    runs = asyncio.create_task(registrar.run())

    async def greet(*names: str) -> list[str]:
        hellos = [registrar.welcome(Spool(node=name).hello()) for name in names]
        answers = await asyncio.gather(*hellos, return_exceptions=True)
        refused = [str(one) for one in answers if not isinstance(one, Welcome)]
        assert all("raise [ingest] max_nodes" in one for one in refused)
        return [name for name, one in zip(names, answers, strict=True) if isinstance(one, Welcome)]

    try:
        assert await greet("b", "d") == ["b", "d"]
        assert await greet("a", "b", "c", "d", "e") == ["a", "b", "d"]
        assert await greet("c", "d") == ["d"]
    finally:
        runs.cancel()
    assert database.execute("SELECT name FROM node ORDER BY 1").fetchall() == [
        ("a",),
        ("b",),
        ("d",),
    ]


async def test_many_new_spools_of_a_node_make_no_more_rows_than_a_day_may(
    pool: Pool, database: Database
) -> None:
    """Its known ones and other nodes are welcome; a day later there is room for new ones."""
    registrar = Registrar(pool, Bounds(nodes=100, new_streams=3))
    runs = asyncio.create_task(registrar.run())
    spools = [Spool(node="varies") for _ in range(5)]

    async def greet(*callers: Spool) -> list[bool]:
        hellos = [registrar.welcome(each.hello()) for each in callers]
        answers = await asyncio.gather(*hellos, return_exceptions=True)
        refused = [one for one in answers if not isinstance(one, Welcome)]
        assert all(isinstance(one, UnsteadyError) for one in refused), refused
        assert all("[ingest] max_new_spools" in str(one) for one in refused)
        return [isinstance(one, Welcome) for one in answers]

    try:
        assert await greet(*spools) == [True, True, True, False, False]
        assert await greet(spools[3], spools[0], Spool(node="other")) == [False, True, True]
        assert database.execute("SELECT count(*) FROM stream").fetchone() == (4,)
        database.execute(
            "UPDATE stream SET created_at = created_at - INTERVAL '1 day' WHERE stream_id = %s",
            [UUID(bytes=spools[1].stream_id)],
        )
        assert await greet(*spools[3:]) == [True, False]
    finally:
        runs.cancel()


async def test_a_node_with_too_many_new_spools_is_told_when_to_come_back(
    pool: Pool, settings: Settings, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    """It keeps what it meters meanwhile; the log says it once."""
    ingest_settings = settings.ingest.model_copy(update={"max_new_spools": 1})
    few = settings.model_copy(update={"ingest": ingest_settings})
    async with IngestServer(pool, few, metrics, utc_now) as ingest:
        for spool, is_welcome in [(Spool(), True), (Spool(), False), (Spool(), False)]:
            async with connected(ingest.port) as client:
                await client.say(spool.hello())
                answer = await client.receive()
            assert answer is not None
            assert answer.HasField("welcome") is is_welcome
            if not is_welcome:
                assert answer.reject.reason == pb.Reject.REASON_BUSY
                assert answer.reject.retry_after_ms == 600_000
    assert len([each for each in caplog.records if vars(each).get("action") == "hello"]) == 1


async def test_a_capacity_out_of_range_is_refused(ingest: IngestServer) -> None:
    """A uint64 that no bigint holds."""
    hello = Spool().hello()
    hello.capacity.cpu_m = 2**64 - 1
    async with connected(ingest.port) as client:
        await client.say(hello)
        assert (await client.rejected()).reason == pb.Reject.REASON_INVALID


async def test_the_first_message_must_be_a_hello(ingest: IngestServer) -> None:
    """Anything else is answered and the call ended."""
    for message in (pb.Heartbeat(), pb.Batch(sequence=1)):
        async with connected(ingest.port) as client:
            await client.say(message)
            assert (await client.rejected()).reason == pb.Reject.REASON_INVALID
            assert await client.receive() is None


@pytest.mark.parametrize("field", ["node", "machine_id"])
async def test_a_stream_of_another_node_or_machine_is_refused(
    ingest: IngestServer, database: Database, field: str
) -> None:
    """A copied spool must make a stream of its own; the original goes on."""
    original = Spool()
    async with connected(ingest.port) as client:
        await client.welcome(original)
        clone = original.hello()
        setattr(clone, field, "other")
        async with connected(ingest.port) as copy:
            await copy.say(clone)
            assert (await copy.rejected()).reason == pb.Reject.REASON_FENCED
            assert await copy.receive() is None
        await client.deliver(original.batch())
    assert database.execute("SELECT epoch, acked_through FROM stream").fetchall() == [(1, 1)]


async def test_many_hellos_at_once_are_all_welcomed(
    ingest: IngestServer, database: Database
) -> None:
    """Each stream its own epoch, two connections of one stream two of them."""
    spools = [Spool(node=f"n{number % 30}") for number in range(60)]
    twins = [*spools, *spools]

    async def greet(spool: Spool) -> int:
        async with connected(ingest.port) as client:
            return (await client.welcome(spool)).epoch

    epochs = await asyncio.gather(*map(greet, twins))
    assert sorted(epochs) == [1] * 60 + [2] * 60
    assert database.execute("SELECT count(*) FROM node").fetchone() == (30,)


async def test_a_taken_port_is_an_error_that_names_it(
    ingest: IngestServer, pool: Pool, metrics: Metrics
) -> None:
    """And the setting that chooses another."""
    settings = Settings(grpc=GrpcSettings(port=ingest.port))
    second = IngestServer(pool, settings, metrics, clock=lambda: pytest.fail("not reached"))
    with pytest.raises(PortTakenError, match=rf"port {ingest.port} .*NODEMETER_GRPC_PORT"):
        await second.start()
