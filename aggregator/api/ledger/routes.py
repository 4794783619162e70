"""The Ledger API: pages of the ledger, and its history part by part.

Each in JSON, or in CSV for whoever asks for it. Nothing is computed here.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from http import HTTPStatus

from aiohttp import web

from aggregator.api.answer import answer_body, answer_json
from aggregator.api.auth import Role
from aggregator.api.csvtext import MEDIA_TYPE, wants_csv
from aggregator.api.ledger.queries import (
    DEFAULT_LIMIT,
    HISTORY_QUERY,
    USAGE_QUERY,
    HistoryAsked,
    parse_history,
    usage_asked,
    write_cursor,
)
from aggregator.api.ledger.shapes import (
    HISTORY_ANSWER,
    USAGE_ANSWER,
    LedgerEntry,
    history_answer,
    table,
    usage_answer,
)
from aggregator.api.parse import parse_query
from aggregator.api.problem import Problem
from aggregator.api.route import BASE_CURRENCY, CALLER, DATABASE, Answer, Route
from aggregator.billing.ledger import CURRENCY, LedgerPage, LedgerPart, ledger_page, ledger_part
from aggregator.rating.currency import NoRateError

UNPRICED_HEADER = "X-Unpriced-Items"
CURSOR_HEADER = "x-next-cursor"


@contextmanager
def needing_rates() -> Generator[None]:
    """Answer 503, with the day, where there is no rate to convert with."""
    try:
        yield
    except NoRateError as error:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from error


async def get_usage(request: web.Request) -> web.StreamResponse:
    """A page of the lines that match."""
    query = parse_query(request, USAGE_QUERY)
    page, limit = query.page or 1, query.limit or DEFAULT_LIMIT
    found = LedgerPage(lines=())
    if query.currency in {None, CURRENCY}:
        with needing_rates():
            found = await ledger_page(
                request.app[DATABASE],
                usage_asked(query),
                request[CALLER].scope,
                base=request.app[BASE_CURRENCY],
                page=page,
                limit=limit,
                is_ascending=query.sort_order == "asc",
            )
    answer = usage_answer(found, page=page, limit=limit)
    headers = {UNPRICED_HEADER: str(found.unpriced_items), **answer.pagination.headers()}
    if wants_csv(request):
        return _answer_table(request, answer.data, "billing_usage.csv", headers)
    return answer_json(request, USAGE_ANSWER.dump_json(answer), headers=headers)


async def get_usage_history(request: web.Request) -> web.StreamResponse:
    """The next lines, from the oldest on."""
    asked = parse_history(request)
    nothing = LedgerPart(lines=(), unpriced_items=0)
    found = await _part(request, asked) if asked.is_usd else nothing
    cursor = write_cursor(asked, found.following) if found.following else None
    answer = history_answer(found, cursor)
    unpriced = found.unpriced_items
    headers = {} if unpriced is None else {UNPRICED_HEADER: str(unpriced)}
    if wants_csv(request):
        headers |= {CURSOR_HEADER: cursor} if cursor else {}
        return _answer_table(request, answer.data, "billing_usage_history.csv", headers)
    return answer_json(request, HISTORY_ANSWER.dump_json(answer), headers=headers)


async def _part(request: web.Request, asked: HistoryAsked) -> LedgerPart:
    with needing_rates():
        return await ledger_part(
            request.app[DATABASE],
            asked.which,
            request[CALLER].scope,
            base=request.app[BASE_CURRENCY],
            after=asked.after,
            limit=asked.page_size,
        )


def _answer_table(
    request: web.Request, entries: list[LedgerEntry], name: str, headers: Mapping[str, str]
) -> web.StreamResponse:
    disposition = {"Content-Disposition": f"attachment; filename={name}"}
    said = {**headers, **disposition}
    return answer_body(request, table(entries), media_type=MEDIA_TYPE, headers=said)


LEDGER_TAG = "Ledger"
_UNPRICED = {UNPRICED_HEADER: "How many items have usage in these hours that has no price"}
_PAGINATION = {
    "x-pagination-limit": "As in the body",
    "x-pagination-page": "As in the body",
    "x-pagination-total": "As in the body",
    "x-pagination-total-pages": "As in the body",
}
_EXAMPLE = {
    "timestamp": "2026-02-06T12:00:00.000Z",
    "sku": "gpu-nvidia-h200-device-hour",
    "pricePerUnitUsd": 2.5,
    "units": 2,
    "amount": -5,
    "currency": "USD",
    "notes": "train-7",
    "inferenceDetails": None,
}

ROUTES = (
    Route(
        method="GET",
        path="/api/v1/billing/usage",
        handler=get_usage,
        operation_id="getBillingUsage",
        tag=LEDGER_TAG,
        summary="What was charged, line by line, by pages",
        description=(
            "A line for each charge (an item, an hour, a price) and for each adjustment. Lines "
            "appear once their hour is sealed, minutes after it, and never change: what is told "
            "of it later is a line of its own."
        ),
        role=Role.SCOPED,
        query=USAGE_QUERY,
        answers={
            HTTPStatus.OK: Answer(
                description="A page, the newest lines first",
                adapter=USAGE_ANSWER,
                headers=_UNPRICED | _PAGINATION,
                example={
                    "data": [_EXAMPLE],
                    "pagination": {"limit": 200, "page": 1, "total": 1, "totalPages": 1},
                },
            )
        },
    ),
    Route(
        method="GET",
        path="/api/v1/billing/usage-history",
        handler=get_usage_history,
        operation_id="getBillingUsageHistory",
        tag=LEDGER_TAG,
        summary="What was charged, line by line, from the oldest on",
        description=(
            "nextCursor, sent alone, leads to the next part; while lines are added, none is "
            "shown twice or left out."
        ),
        role=Role.SCOPED,
        query=HISTORY_QUERY,
        answers={
            HTTPStatus.OK: Answer(
                description="The next lines, the oldest first",
                adapter=HISTORY_ANSWER,
                headers={UNPRICED_HEADER: f"{_UNPRICED[UNPRICED_HEADER]}; of the first part"},
                example={"data": [_EXAMPLE], "nextCursor": None},
            )
        },
    ),
)
