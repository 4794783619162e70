"""What supervisors ask: is the process up, can it serve, and what does it count."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from pydantic import TypeAdapter

from aggregator.api.answer import answer_json, offer_compression
from aggregator.api.auth import Role
from aggregator.api.problem import Problem
from aggregator.api.route import DATABASE, METRICS, Answer, Route
from aggregator.api.wire import wire
from aggregator.billing.database import Database
from aggregator.billing.item_lists import count_unpriced_items
from aggregator.errors import DatabaseError

READY_SECONDS = 5.0


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """A state in one word."""

    status: str


HEALTH = TypeAdapter(Health)


class Readiness:
    """Asks the database once at a time, however many ask us."""

    def __init__(self, database: Database) -> None:
        """Nothing is known yet."""
        self._database = database
        self._asking: asyncio.Task[bool] | None = None

    async def schema_is_current(self) -> bool:
        """What the database says. Raises DatabaseError."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._database.schema_is_current())
        return await asyncio.shield(self._asking)  # others wait for it, too


READINESS = web.AppKey("READINESS", Readiness)


async def get_healthz(request: web.Request) -> web.StreamResponse:
    """The process answers; nothing else is looked at."""
    return answer_json(request, HEALTH.dump_json(Health(status="ok")), is_kept=False)


async def get_readyz(request: web.Request) -> web.StreamResponse:
    """The database answers and holds this software's schema, with all that services may do."""
    if not await request.app[READINESS].schema_is_current():
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "the database is not migrated to this version: restart nodemeter-aggregator, "
            "or run `nodemeter-aggregator migrate`",
        )
    return answer_json(request, HEALTH.dump_json(Health(status="ready")), is_kept=False)


async def get_metrics(request: web.Request) -> web.StreamResponse:
    """All metrics, in Prometheus's text format; what the database counts is of this moment."""
    metrics = request.app[METRICS]
    with suppress(DatabaseError):  # the other metrics tell about it
        metrics.unpriced_items.set(await count_unpriced_items(request.app[DATABASE]))
    response = web.Response(
        body=generate_latest(metrics.registry),
        headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4},
    )
    offer_compression(request, response)
    return response


_TAG = "Health"

ROUTES = (
    Route(
        method="GET",
        path="/healthz",
        handler=get_healthz,
        operation_id="getHealth",
        tag=_TAG,
        summary="Whether the process is up",
        role=None,
        answers={HTTPStatus.OK: Answer(description="It is", adapter=HEALTH)},
        is_limited=False,
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=get_readyz,
        operation_id="getReadiness",
        tag=_TAG,
        summary="Whether the database is reachable, migrated and complete",
        role=None,
        answers={HTTPStatus.OK: Answer(description="It is", adapter=HEALTH)},
        problems=(HTTPStatus.SERVICE_UNAVAILABLE,),
        timeout_seconds=READY_SECONDS,
        is_limited=False,
    ),
    Route(
        method="GET",
        path="/metrics",
        handler=get_metrics,
        operation_id="getMetrics",
        tag=_TAG,
        summary="Metrics for Prometheus",
        role=Role.VIEWER,
        answers={
            HTTPStatus.OK: Answer(
                description="Prometheus's text format",
                adapter=TypeAdapter(str),
                media_type="text/plain",
            )
        },
    ),
)
