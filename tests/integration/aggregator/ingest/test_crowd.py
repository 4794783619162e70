"""How many agents are taken at once, and for how long one may say nothing."""

from collections.abc import AsyncIterator

import pytest_asyncio

from aggregator.clock import utc_now
from aggregator.descriptors import Shares
from aggregator.ingest.server import IngestServer
from aggregator.metrics import Metrics
from aggregator.settings import Settings
from aggregator.store.pool import Pool
from proto.metering.v1 import metering_pb2 as pb
from tests.integration.aggregator.agents import Spool, connected

ROOM = Shares(agents=2, agent_connections=10, requesters=10)


@pytest_asyncio.fixture
async def small_port(pool: Pool, settings: Settings, metrics: Metrics) -> AsyncIterator[int]:
    """An ingest that takes two agents, and has no patience with silent ones."""
    ingest = IngestServer(pool, settings, metrics, utc_now, room=ROOM, silence_seconds=1)
    async with ingest:
        yield ingest.port


async def test_one_agent_too_many_is_told_so(small_port: int) -> None:
    """And to come back later: its backlog waits in its spool."""
    first, second, third = (Spool(node=f"n{number}") for number in range(3))
    async with connected(small_port) as one, connected(small_port) as two:
        await one.welcome(first)
        await two.welcome(second)
        async with connected(small_port) as three:
            await three.say(third.hello())
            refusal = await three.rejected()
    assert refusal.reason == pb.Reject.REASON_BUSY
    assert refusal.retry_after_ms > 0
    assert "2 agents are connected" in refusal.detail


async def test_an_agent_that_says_nothing_is_hung_up_on(small_port: int) -> None:
    """A Hello alone keeps no place for ever."""
    async with connected(small_port) as client:
        await client.welcome(Spool())
        assert await client.receive() is None
