"""The Bill API: bills, usages, users and ratios, as the original served them.

Routes match whatever their case, a slash at the end is ignored, and JSON is the answer
also to `Accept: text/plain`. Nothing is computed here.
"""

from http import HTTPStatus

from aiohttp import web
from pydantic import TypeAdapter

from aggregator.api.answer import answer_json
from aggregator.api.auth import Role
from aggregator.api.bills.shapes import (
    BILL_COLUMNS,
    BILL_ITEMS,
    RATIO_FORM,
    RATIO_INFOS,
    USAGE_COLUMNS,
    USAGE_ITEMS,
    USER_ITEMS,
    RatioInfo,
    bill_item,
    usage_item,
    user_item,
)
from aggregator.api.csvtext import wants_csv
from aggregator.api.item_query import ITEM_QUERY, next_link, parse_items
from aggregator.api.lists import Form, answer_array, answer_list, csv_form, json_form
from aggregator.api.parse import parse_body
from aggregator.api.route import CALLER, DATABASE, Answer, Route
from aggregator.billing.audit import Author
from aggregator.billing.database import Listing
from aggregator.billing.item_lists import list_items
from aggregator.billing.items import Item, list_users
from aggregator.billing.ratio_changes import delete_ratio, set_ratio
from aggregator.billing.ratio_plan import Ratio
from aggregator.billing.ratios import list_ratios
from aggregator.rating.money import number

UNPRICED_HEADER = "X-Unpriced-Items"
LIST_SECONDS = 600.0

BILLS_JSON = json_form(bill_item, BILL_ITEMS)
BILLS_CSV = csv_form(bill_item, BILL_COLUMNS, "bills.csv")
USAGES_JSON = json_form(usage_item, USAGE_ITEMS)
USAGES_CSV = csv_form(usage_item, USAGE_COLUMNS, "usages.csv")


async def get_bills(request: web.Request) -> web.StreamResponse:
    """Usage and fee of every item that matches."""
    is_table = wants_csv(request)
    return await _answer_items(request, BILLS_CSV if is_table else BILLS_JSON)


async def get_usages(request: web.Request) -> web.StreamResponse:
    """Usage of every item that matches."""
    is_table = wants_csv(request)
    return await _answer_items(request, USAGES_CSV if is_table else USAGES_JSON)


async def _answer_items(request: web.Request, form: Form[Item]) -> web.StreamResponse:
    """The items that match, in that form."""
    asked = parse_items(request)
    if asked.matches_nothing:
        return await answer_list(request, Listing[Item](), form, headers={UNPRICED_HEADER: "0"})
    async with list_items(request.app[DATABASE], asked, request[CALLER].scope) as listing:
        headers = {
            UNPRICED_HEADER: str(listing.unpriced_items),
            **next_link(request, listing.following),
        }
        return await answer_list(request, listing.rows, form, headers=headers)


async def get_users(request: web.Request) -> web.StreamResponse:
    """Every user whose jobs were metered."""
    async with list_users(request.app[DATABASE], request[CALLER].scope) as users:
        return await answer_array(request, users, user_item, USER_ITEMS)


async def get_ratios(request: web.Request) -> web.StreamResponse:
    """The declared ratios, as doubles."""
    ratios = await list_ratios(request.app[DATABASE], request[CALLER].scope)
    shown = [RatioInfo(key=each.key, value=number(float(each.value))) for each in ratios]
    return answer_json(request, RATIO_INFOS.dump_json(shown))


async def post_ratio(request: web.Request) -> web.StreamResponse:
    """Declare a value; the digits that were sent are kept."""
    form = await parse_body(request, RATIO_FORM)
    ratio = Ratio(key=form.key, value=form.value)
    await set_ratio(request.app[DATABASE], ratio, Author(actor=request[CALLER].name))
    return web.Response()


async def delete_ratio_of_key(request: web.Request) -> web.StreamResponse:
    """Close the version in force; history stays."""
    key = request.match_info["key"]
    author = Author(actor=request[CALLER].name)
    if await delete_ratio(request.app[DATABASE], key, author):
        return web.Response(status=HTTPStatus.NO_CONTENT)
    return web.Response(status=HTTPStatus.NOT_FOUND, text="There is no ratio with this key")


_UNPRICED = {UNPRICED_HEADER: "How many of the items have usage without a ratio"}

ROUTES = (
    Route(
        method="GET",
        path="/api/Bills",
        handler=get_bills,
        operation_id="Get Bill List",
        tag="Bills",
        summary="Usage and fee per job run, type, node, device model and quota",
        role=Role.SCOPED,
        query=ITEM_QUERY,
        answers={
            HTTPStatus.OK: Answer(
                description="Returns the bill list, newest first",
                adapter=BILL_ITEMS,
                headers=_UNPRICED,
            )
        },
        ignores_case=True,
        timeout_seconds=LIST_SECONDS,
    ),
    Route(
        method="GET",
        path="/api/Usages",
        handler=get_usages,
        operation_id="Get Usage List",
        tag="Usages",
        summary="Usage per job run, type, node, device model and quota",
        role=Role.SCOPED,
        query=ITEM_QUERY,
        answers={
            HTTPStatus.OK: Answer(
                description="Returns the usage list, newest first",
                adapter=USAGE_ITEMS,
                headers=_UNPRICED,
            )
        },
        ignores_case=True,
        timeout_seconds=LIST_SECONDS,
    ),
    Route(
        method="GET",
        path="/api/Users",
        handler=get_users,
        operation_id="Get User List",
        tag="Users",
        summary="Users whose jobs were metered",
        role=Role.SCOPED,
        answers={HTTPStatus.OK: Answer(description="Returns the user list", adapter=USER_ITEMS)},
        ignores_case=True,
        timeout_seconds=LIST_SECONDS,
    ),
    Route(
        method="GET",
        path="/api/Ratios",
        handler=get_ratios,
        operation_id="Get Ratio List",
        tag="Ratios",
        summary="Ratios in force",
        role=Role.SCOPED,
        answers={HTTPStatus.OK: Answer(description="Success", adapter=RATIO_INFOS)},
        ignores_case=True,
    ),
    Route(
        method="POST",
        path="/api/Ratios",
        handler=post_ratio,
        operation_id="Create Ratio",
        tag="Ratios",
        summary="Set a ratio",
        description=(
            "A new key is in force from the beginning of the current minute, a new value of a "
            "known key from the next whole minute. An equal value changes nothing."
        ),
        role=Role.ADMIN,
        body=RATIO_FORM,
        answers={HTTPStatus.OK: Answer(description="Success")},
        ignores_case=True,
    ),
    Route(
        method="DELETE",
        path="/api/Ratios/{key}",
        handler=delete_ratio_of_key,
        operation_id="Delete Ratio",
        tag="Ratios",
        summary="Delete a ratio",
        description="From the next whole minute on its usage is unpriced; the past is kept.",
        role=Role.ADMIN,
        path_parameters={"key": "Metrics or usage Type, percent-encoded"},
        answers={
            HTTPStatus.NO_CONTENT: Answer(description="Success"),
            HTTPStatus.NOT_FOUND: Answer(
                description="Not Found", adapter=TypeAdapter(str), media_type="text/plain"
            ),
        },
        ignores_case=True,
    ),
)
