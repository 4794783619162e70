"""A served application and a client that keeps what came over the wire."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from aggregator.api.app import build_app, build_runner
from aggregator.api.listen import listen
from aggregator.metrics import Metrics
from aggregator.settings import BillingSettings, Currency, HttpSettings, Settings
from aggregator.store.pool import Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> Any:  # noqa: ANN401 - whatever the server sent
        """The body as JSON; doubles become float, whole numbers int."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Api:
    """Asks a served application over TCP."""

    port: int
    session: aiohttp.ClientSession
    metrics: Metrics = field(default_factory=Metrics)

    async def ask(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | BytesIO | None = None,
    ) -> Answer:
        """Send one request; the target goes out as it is written."""
        url = URL(f"http://127.0.0.1:{self.port}{target}", encoded=True)
        async with self.session.request(
            method, url, headers=headers, data=data, allow_redirects=False
        ) as response:
            return Answer(
                status=response.status, headers=response.headers, body=await response.read()
            )

    async def get(self, target: str, **headers: str) -> Answer:
        """GET with headers whose names are written with underscores."""
        return await self.ask("GET", target, headers=_names(headers))

    async def post(self, target: str, body: object, **headers: str) -> Answer:
        """POST of JSON, or of bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.ask(
            "POST",
            target,
            data=data,
            headers={"Content-Type": "application/json"} | _names(headers),
        )

    async def delete(self, target: str) -> Answer:
        """DELETE."""
        return await self.ask("DELETE", target)

    async def raw(self, text: bytes) -> bytes:
        """Whatever bytes go out, the bytes that come back until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(text)
        try:
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def served(
    pool: Pool,
    http: HttpSettings | None = None,
    *,
    currency: Currency = "USD",
    prepare: Callable[[web.Application], None] = lambda _: None,
) -> AsyncGenerator[Api]:
    """The application on a port of its own; `prepare` may add to it before it starts."""
    metrics = Metrics()
    billing = BillingSettings(currency=currency)
    app = build_app(Settings(http=http or HttpSettings(), billing=billing), pool, metrics)
    prepare(app)
    runner = build_runner(app)
    await runner.setup()
    server = await listen(runner, HttpSettings(port=0), max_connections=1000)
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            yield Api(server.sockets[0].getsockname()[1], session, metrics)
    finally:
        server.close()
        await runner.cleanup()


def _names(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
