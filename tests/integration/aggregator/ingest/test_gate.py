"""Mutual TLS: who an agent is, is what its certificate says, for as long as it stays."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from aggregator.ca.layout import CaError, Layout, write_whole
from aggregator.ca.ledger import Denied, write_denied
from aggregator.clock import utc_now
from aggregator.ingest.server import IngestServer
from aggregator.metrics import Metrics
from aggregator.settings import Settings
from aggregator.store.pool import Pool
from tests.integration.aggregator.agents import Spool, connected
from tests.integration.wire.authority import Authority, Client, lasting

URI = "spiffe://nodemeter/node/"


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ca"


@pytest_asyncio.fixture
async def guarded(
    pool: Pool, settings: Settings, metrics: Metrics, authority: Authority, folder: Path
) -> AsyncIterator[IngestServer]:
    """A server that wants certificates of `authority`."""
    settings = settings.model_copy(update={"tls": authority.write(folder)})
    async with IngestServer(pool, settings, metrics, utc_now) as server:
        yield server


def deny(folder: Path, client: Client, reason: str) -> None:
    entry = Denied(serial=client.serial, node="", reason=reason, revoked_at="2026-01-01T00:00:00Z")
    write_denied(Layout(folder).denied, [entry])


async def refusal(server: IngestServer, client: Client, node: str = "node-1") -> str:
    """What an agent with this certificate is told."""
    async with connected(server.port, client.credentials()) as agent:
        await agent.say(Spool(node=node).hello())
        return (await agent.rejected()).detail


async def test_a_node_is_let_in_by_its_certificate(
    guarded: IngestServer, authority: Authority
) -> None:
    """And delivers."""
    spool = Spool(node="node-1")
    async with connected(guarded.port, authority.client("node-1").credentials()) as agent:
        await agent.welcome(spool)
        await agent.deliver(spool.batch())


async def test_a_certificate_names_exactly_one_node_and_says_so_in_its_uri(
    guarded: IngestServer, authority: Authority
) -> None:
    """No fallback to the common name, no choice between two."""
    told = await refusal(guarded, authority.other("node-1", []))
    assert "names 'node-1' as common name only" in told
    told = await refusal(guarded, authority.other("node-1", [f"{URI}node-1", f"{URI}node-2"]))
    assert f"the certificate has 2 URIs ({URI}node-1, {URI}node-2)" in told
    told = await refusal(guarded, authority.other("node-1", ["spiffe://elsewhere/node/node-1"]))
    assert "is of spiffe://elsewhere/node/node-1, which is not spiffe://nodemeter/node/<id>" in told


async def test_a_node_cannot_speak_for_another(guarded: IngestServer, authority: Authority) -> None:
    """Both names are told, and what to do."""
    told = await refusal(guarded, authority.client("node-2"), node="node-1")
    assert "it names node-2, the agent says that it is node-1" in told


async def test_who_is_denied_is_not_let_in(
    guarded: IngestServer, authority: Authority, folder: Path
) -> None:
    """From the next Hello on; the others are."""
    client = authority.client("node-1")
    deny(folder, client, "stolen")
    assert f"the certificate {client.serial} was revoked: stolen" in await refusal(guarded, client)
    async with connected(guarded.port, authority.client("node-1").credentials()) as agent:
        await agent.welcome(Spool(node="node-1"))


async def test_who_knocks_on_and_on_is_logged_once(
    guarded: IngestServer, authority: Authority, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By the name of its node, not by each attempt."""
    client, other = authority.client("node-1"), authority.client("node-2")
    deny(folder, client, "stolen")
    for _ in range(3):
        await refusal(guarded, client)
    await refusal(guarded, other)
    told = [vars(each) for each in caplog.records if each.message == "an agent was refused"]
    assert [each["reason"].partition(":")[0] for each in told] == [
        f"the certificate {client.serial} was revoked",
        "the certificate is of another node",
    ]
    assert all(each["node"] == "node-1" for each in told)


async def test_who_is_denied_while_connected_is_sent_away(
    guarded: IngestServer, authority: Authority, folder: Path
) -> None:
    """With the reason; what was acked before stays acked."""
    client, spool = authority.client("node-1"), Spool(node="node-1")
    async with connected(guarded.port, client.credentials()) as agent:
        await agent.welcome(spool)
        await agent.deliver(spool.batch())
        deny(folder, client, "the node was sold")
        assert "was revoked: the node was sold" in (await agent.rejected()).detail
        assert await agent.receive() is None


async def test_who_expires_while_connected_is_sent_away(
    pool: Pool, settings: Settings, metrics: Metrics, authority: Authority, folder: Path
) -> None:
    """A connection does not outlive its certificate."""
    ahead = timedelta()
    settings = settings.model_copy(update={"tls": authority.write(folder)})
    client = authority.client("node-1", lasting(left=timedelta(days=1)))
    async with (
        IngestServer(pool, settings, metrics, lambda: utc_now() + ahead) as server,
        connected(server.port, client.credentials()) as agent,
    ):
        await agent.welcome(Spool(node="node-1"))
        ahead = timedelta(days=2)
        assert "the certificate has expired" in (await agent.rejected()).detail
        assert await agent.receive() is None


async def test_the_server_takes_up_other_files_without_a_restart(
    guarded: IngestServer, authority: Authority, folder: Path
) -> None:
    """Its own certificate, and the authority's."""
    other = Authority()
    write_whole(Layout(folder).certificate, other.roots + authority.roots)
    write_whole(Layout(folder).server, other.server())
    async with connected(guarded.port, other.client("node-1").credentials()) as agent:
        await agent.welcome(Spool(node="node-1"))


async def test_nobody_comes_in_without_a_certificate(
    guarded: IngestServer, authority: Authority
) -> None:
    """Nor with one of another authority, nor in plain text."""
    stranger = Authority().client("node-1")
    chain = grpc.ssl_channel_credentials(authority.roots, stranger.key, stranger.certificate)
    for credentials in (chain, grpc.ssl_channel_credentials(authority.roots), None):
        async with connected(guarded.port, credentials) as agent:
            await agent.say(Spool(node="node-1").hello())
            with pytest.raises(grpc.RpcError) as caught:
                await agent.receive()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_an_authority_that_is_not_there_is_an_error_that_says_how_to_make_it(
    pool: Pool, settings: Settings, metrics: Metrics, authority: Authority, folder: Path
) -> None:
    """Before anything is listened on."""
    settings = settings.model_copy(update={"tls": authority.write(folder)})
    Layout(folder).server.unlink()
    with pytest.raises(CaError, match="nodemeter-aggregator ca init"):
        IngestServer(pool, settings, metrics, utc_now)
