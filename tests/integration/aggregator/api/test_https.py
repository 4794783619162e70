"""The billing APIs over HTTPS, asked with the admin command's own client."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from aggregator.admin.client import Client
from aggregator.admin.errors import UnreachableError, UsageError
from aggregator.api.listen import listen
from aggregator.api.tls import server_context
from aggregator.ca.layout import Layout, write_whole
from aggregator.errors import NodemeterError
from aggregator.settings import HttpSettings
from tests.integration.wire.authority import Authority


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def folder(authority: Authority, tmp_path: Path) -> Path:
    authority.write(tmp_path / "ca")
    return tmp_path / "ca"


async def answer(_request: web.Request) -> web.Response:
    return web.json_response([{"node": "n1"}])


@pytest_asyncio.fixture
async def url(folder: Path) -> AsyncIterator[str]:
    """A server with the certificate that lies in the folder."""
    app = web.Application()
    app.router.add_get("/x", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    settings = HttpSettings(port=0, tls_cert=Layout(folder).server)
    server = await listen(runner, settings, max_connections=100)
    yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await runner.cleanup()


async def ask(url: str, ca_file: Path | None) -> object:
    client = Client(url=url, ca_file=ca_file)
    return await asyncio.to_thread(client.get_list, "/x")


async def test_who_trusts_the_authority_is_answered(url: str, folder: Path) -> None:
    """Who does not is told how to."""
    assert await ask(url, Layout(folder).certificate) == [{"node": "n1"}]
    with pytest.raises(UnreachableError, match="--ca-file names whose certificates are trusted"):
        await ask(url, None)


async def test_a_certificate_that_is_replaced_is_taken_up(url: str, folder: Path) -> None:
    """By the next connection; one that is of no use is not."""
    other = Authority()
    write_whole(Layout(folder).server, other.server())
    write_whole(folder / "other.crt", other.roots)
    assert await ask(url, folder / "other.crt") == [{"node": "n1"}]
    write_whole(Layout(folder).server, b"none")
    assert await ask(url, folder / "other.crt") == [{"node": "n1"}]


async def test_files_of_no_use_are_an_error_in_one_line(tmp_path: Path, folder: Path) -> None:
    """On both sides."""
    with pytest.raises(NodemeterError, match=r"\[http\] tls_cert .*No such file"):
        server_context(tmp_path / "none", tmp_path / "none")
    with pytest.raises(NodemeterError, match=r"\[http\] tls_cert"):
        server_context(Layout(folder).certificate, Layout(folder).certificate)
    with pytest.raises(UsageError, match="--ca-file: there is no file"):
        Client(url="https://127.0.0.1", ca_file=tmp_path / "none")
