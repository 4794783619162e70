"""The Bill API: bills, usages, users and ratios, as the original served them.

Routes match whatever their case, a slash at the end is ignored, and JSON is the answer
also to `Accept: text/plain`. Nothing is computed here.
"""

from http import HTTPStatus

from aiohttp import web
from pydantic import TypeAdapter

from aggregator.api.answer import answer_array, answer_json
from aggregator.api.auth import Role
from aggregator.api.bills.shapes import (
    BILL_ITEMS,
    RATIO_FORM,
    RATIO_INFOS,
    USAGE_ITEMS,
    USER_ITEMS,
    RatioInfo,
    bill_item,
    usage_item,
    user_item,
)
from aggregator.api.item_query import ITEM_QUERY
from aggregator.api.parse import parse_body, parse_query
from aggregator.api.route import CALLER, DATABASE, Answer, Route
from aggregator.billing.audit import Author
from aggregator.billing.items import list_items, list_users
from aggregator.billing.ratio_changes import delete_ratio, set_ratio
from aggregator.billing.ratio_plan import Ratio
from aggregator.billing.ratios import list_ratios
from aggregator.rating.money import number

UNPRICED_HEADER = "X-Unpriced-Items"
LIST_SECONDS = 600.0


async def get_bills(request: web.Request) -> web.StreamResponse:
    """Usage and fee of every item that matches."""
    which = parse_query(request, ITEM_QUERY).to_filter()
    if which.matches_nothing:
        return answer_json(request, b"[]", headers={UNPRICED_HEADER: "0"})
    async with list_items(request.app[DATABASE], which) as listing:
        headers = {UNPRICED_HEADER: str(listing.unpriced_items)}
        return await answer_array(request, listing.rows, bill_item, BILL_ITEMS, headers=headers)


async def get_usages(request: web.Request) -> web.StreamResponse:
    """Usage of every item that matches."""
    which = parse_query(request, ITEM_QUERY).to_filter()
    if which.matches_nothing:
        return answer_json(request, b"[]", headers={UNPRICED_HEADER: "0"})
    async with list_items(request.app[DATABASE], which) as listing:
        headers = {UNPRICED_HEADER: str(listing.unpriced_items)}
        return await answer_array(request, listing.rows, usage_item, USAGE_ITEMS, headers=headers)


async def get_users(request: web.Request) -> web.StreamResponse:
    """Every user whose jobs were metered."""
    async with list_users(request.app[DATABASE]) as users:
        return await answer_array(request, users, user_item, USER_ITEMS)


async def get_ratios(request: web.Request) -> web.StreamResponse:
    """The declared ratios, as doubles."""
    ratios = await list_ratios(request.app[DATABASE])
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
        query=ITEM_QUERY,
        answers={
            HTTPStatus.OK: Answer(
                description="Returns the bill list, newest first",
                adapter=BILL_ITEMS,
                headers=_UNPRICED,
            )
        },
        problems=(HTTPStatus.BAD_REQUEST,),
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
        query=ITEM_QUERY,
        answers={
            HTTPStatus.OK: Answer(
                description="Returns the usage list, newest first",
                adapter=USAGE_ITEMS,
                headers=_UNPRICED,
            )
        },
        problems=(HTTPStatus.BAD_REQUEST,),
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
        problems=(
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        ),
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
