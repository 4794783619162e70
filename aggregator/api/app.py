"""Puts the HTTP side together: the table of routes, and what happens around each of them."""

from aiohttp import web

from aggregator.api import docs, health
from aggregator.api.bills import routes as bills
from aggregator.api.cors import admit_pages
from aggregator.api.cost import routes as cost
from aggregator.api.cost.dialect import COST
from aggregator.api.dialect import Dialect, Dialects
from aggregator.api.docs import DOCUMENT
from aggregator.api.door import Door
from aggregator.api.health import READINESS, Readiness
from aggregator.api.hourly import routes as hourly
from aggregator.api.hourly.dialect import HOURLY
from aggregator.api.http_metrics import HttpMetrics
from aggregator.api.ledger import analytics as ledger_analytics
from aggregator.api.ledger import routes as ledger
from aggregator.api.ledger.dialect import LEDGER
from aggregator.api.ledger.remembered import REMEMBERED, Remembered
from aggregator.api.middleware import (
    DIALECTS,
    DOOR,
    HTTP_METRICS,
    ROUTES,
    admit,
    answer_errors,
    log_request,
    set_headers,
)
from aggregator.api.native import (
    adjustments,
    audit,
    conservation,
    currencies,
    explain,
    methods,
    periods,
    quotas,
    quote,
    ratios,
    reconcile,
    rerates,
    tokens,
)
from aggregator.api.native import routes as native
from aggregator.api.openapi import document
from aggregator.api.parse import LARGE_BODY
from aggregator.api.pods import routes as pods
from aggregator.api.pods.dialect import PODS
from aggregator.api.route import BASE_CURRENCY, DATABASE, METRICS, PODS_LIVE, USAGE_DAYS, Route
from aggregator.api.router import add_routes
from aggregator.api.tokenbook import TOKENS, TokenBook
from aggregator.billing.database import Database
from aggregator.metrics import Metrics
from aggregator.settings import Settings
from aggregator.store.pool import Pool

ALL_ROUTES: tuple[Route, ...] = (
    *bills.ROUTES,
    *hourly.ROUTES,
    *ratios.ROUTES,
    *native.ROUTES,
    *conservation.ROUTES,
    *periods.ROUTES,
    *adjustments.ROUTES,
    *audit.ROUTES,
    *rerates.ROUTES,
    *methods.ROUTES,
    *quotas.ROUTES,
    *currencies.ROUTES,
    *explain.ROUTES,
    *quote.ROUTES,
    *reconcile.ROUTES,
    *tokens.ROUTES,
    *cost.ROUTES,
    *pods.ROUTES,
    *ledger.ROUTES,
    *ledger_analytics.ROUTES,
    *health.ROUTES,
    *docs.ROUTES,
)

ALL_DIALECTS: tuple[Dialect, ...] = (COST, PODS, LEDGER, HOURLY)
"""Those beside the native one."""

_SHUTDOWN_SECONDS = 5.0
"""For answers under way when we are told to stop."""


def build_app(settings: Settings, pool: Pool, metrics: Metrics) -> web.Application:
    """The application on an open pool; the caller runs it, best by `build_runner`."""
    app = web.Application(
        middlewares=(log_request, answer_errors, admit_pages(settings.http), admit),
        client_max_size=LARGE_BODY,
    )
    app[DATABASE] = Database(pool, statement_seconds=settings.http.statement_seconds)
    app[METRICS] = metrics
    app[USAGE_DAYS] = settings.retention.usage_days
    app[BASE_CURRENCY] = settings.billing.currency
    app[PODS_LIVE] = settings.pods.live_variant
    app[HTTP_METRICS] = HttpMetrics(metrics.registry)
    app[REMEMBERED] = Remembered()
    app[TOKENS] = TokenBook(app[DATABASE])
    app[DOOR] = Door(settings.http, app[TOKENS])
    app[DIALECTS] = Dialects(ALL_DIALECTS)
    app[READINESS] = Readiness(app[DATABASE])
    shown = pods.as_written(ALL_ROUTES, is_live=settings.pods.live_variant)
    app[DOCUMENT] = document(shown, app[DIALECTS])
    app[ROUTES] = {route.handler: route for route in ALL_ROUTES}
    app.on_response_prepare.append(set_headers)
    add_routes(app, ALL_ROUTES)
    return app


def build_runner(app: web.Application) -> web.AppRunner:
    """What runs it; `listen` makes the connections."""
    return web.AppRunner(app, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_SECONDS)
