"""Runs the aggregator: ingest, rater, maintenance and the HTTP APIs on one loop.

It ends when it is told to, by SIGTERM or SIGINT, or when a part of it cannot go on. It
starts in an order in which nothing is offered before it works, and stops in the reverse:
what agents were promised is kept, what they were not stays in their spools.
"""

import asyncio
import errno
import gc
import logging
import signal
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from aiohttp import web

from aggregator.api.app import build_app, build_runner
from aggregator.api.listen import listen
from aggregator.clock import utc_now
from aggregator.descriptors import Shares, raise_limit, shares
from aggregator.errors import NodemeterError, PortTakenError
from aggregator.ingest.server import IngestServer
from aggregator.maintenance import Maintenance
from aggregator.metrics import Metrics
from aggregator.notify import Notifier
from aggregator.rater import Rater
from aggregator.reconciler import Reconciler
from aggregator.settings import HttpSettings, Settings
from aggregator.store.chunks import add_chunks
from aggregator.store.grants import Role
from aggregator.store.patience import waiting
from aggregator.store.pool import Pool, open_pool

_LOGGER: Final = logging.getLogger(__name__)
_WORKERS: Final = {Role.INGEST: 2, Role.RATER: 1, Role.MAINTENANCE: 1}
"""Connections of each service that works by itself; that of requests is configured."""
_CHECK_SECONDS: Final = 1.0
_GARBAGE_THRESHOLDS: Final = (10_000, 20, 10)
"""More objects than an answer has rows in memory: whoever reads a list waits for no search."""


class PartEndedError(NodemeterError):
    """A part that must run for ever has ended."""


async def serve(
    settings: Settings,
    url: str,
    notifier: Notifier,
    *,
    database_ending: Callable[[], str | None] = lambda: None,
) -> None:
    """Serve until a signal.

    Raises `NodemeterError`: what is needed cannot be had, or a part of us has ended.
    `database_ending` says how a server that we own has ended; another's may come and go.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    metrics = Metrics()
    room = shares(raise_limit())
    async with AsyncExitStack() as stack:
        sizes = {**_WORKERS, Role.API: settings.database.pool_size}
        pools = {
            role: await stack.enter_async_context(_pool(url, role, size, stop))
            for role, size in sizes.items()
        }
        await waiting(lambda: add_chunks(pools[Role.MAINTENANCE]), stop)
        await stack.enter_async_context(_http(settings, pools[Role.API], metrics, room))
        tasks = await stack.enter_async_context(_background(settings, pools, metrics))
        server = IngestServer(pools[Role.INGEST], settings, metrics, utc_now, room=room)
        ingest = await stack.enter_async_context(server)
        stack.callback(notifier.stopping)
        _settle()
        notifier.ready()
        _LOGGER.info(
            "serving",
            extra={
                "action": "serve",
                "http": settings.http.port,
                "grpc": ingest.port,
                "most_agents": room.agents,
            },
        )
        await _watch(stop, [*tasks, *ingest.tasks], notifier, database_ending)


def _settle() -> None:
    """Look for garbage rarely, and never among what is loaded now, which stays.

    To look through that would stop the loop, and all who wait for it, for a tenth of a second,
    again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE_THRESHOLDS)


@asynccontextmanager
async def _pool(url: str, role: Role, size: int, stop: asyncio.Event) -> AsyncGenerator[Pool]:
    pool = await waiting(lambda: open_pool(url, role=role, max_size=size), stop)
    try:
        yield pool
    finally:
        await pool.close()


@asynccontextmanager
async def _http(
    settings: Settings, pool: Pool, metrics: Metrics, room: Shares
) -> AsyncGenerator[None]:
    runner = build_runner(build_app(settings, pool, metrics))
    await runner.setup()
    try:
        server = await _listen(runner, settings.http, room)
        try:
            yield
        finally:
            server.close()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, settings: HttpSettings, room: Shares) -> asyncio.Server:
    try:
        return await listen(runner, settings, room.requesters)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTakenError(host=settings.host, port=settings.port, section="http") from error
        raise NodemeterError(
            f"[http] cannot listen on {settings.host} port {settings.port}: {error.strerror}"
        ) from error


@asynccontextmanager
async def _background(
    settings: Settings, pools: Mapping[Role, Pool], metrics: Metrics
) -> AsyncGenerator[list[asyncio.Task[None]]]:
    rater = Rater(pools[Role.RATER], settings.rater, metrics)
    maintenance = Maintenance(pools[Role.MAINTENANCE], settings.retention, metrics)
    reconciler = Reconciler(pools[Role.API], settings.retention.usage_days, metrics)
    tasks = [
        asyncio.create_task(rater.run(), name="rater"),
        asyncio.create_task(maintenance.run(), name="maintenance"),
        asyncio.create_task(reconciler.run(), name="reconciler"),
    ]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _watch(
    stop: asyncio.Event,
    tasks: Iterable[asyncio.Task[None]],
    notifier: Notifier,
    database_ending: Callable[[], str | None],
) -> None:
    """Return when told to stop; show the service manager meanwhile that all parts live."""
    while not stop.is_set():
        for task in tasks:
            if task.done():
                raise PartEndedError(f"the part {task.get_name()} has ended") from _reason(task)
        if ending := database_ending():
            raise PartEndedError(f"the embedded database has ended: {ending}")
        notifier.watchdog()
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await stop.wait()
        except TimeoutError:
            continue


def _reason(task: asyncio.Task[None]) -> BaseException | None:
    return None if task.cancelled() else task.exception()
