"""The administrators' endpoints: exact prices with history, check and import; nodes; detail."""

from http import HTTPStatus

from aiohttp import web

from aggregator.api.answer import answer_array, answer_json
from aggregator.api.auth import Role
from aggregator.api.item_query import ITEM_QUERY
from aggregator.api.native.item_shapes import (
    NODE_LINES,
    USAGE_DETAILS,
    node_line,
    usage_detail,
)
from aggregator.api.native.ratio_shapes import (
    DELETION_QUERY,
    KEY_QUERY,
    RATIO_CHANGE,
    RATIO_DIFFERENCE,
    RATIO_DIFFERENCES,
    RATIO_FINDINGS,
    RATIO_IMPORT,
    RATIO_LINES,
    RATIO_VERSIONS,
    ratio_difference,
    ratio_findings,
    ratio_line,
    ratio_version,
)
from aggregator.api.parse import LARGE_BODY, parse_body, parse_query
from aggregator.api.problem import Problem
from aggregator.api.route import CALLER, DATABASE, Answer, Route
from aggregator.billing.check import check_ratios, shadows_of
from aggregator.billing.items import list_items, list_nodes
from aggregator.billing.ratios import (
    Author,
    Ratio,
    delete_ratio,
    import_ratios,
    list_history,
    list_ratios,
    set_ratio,
)
from aggregator.rating.versions import StartError


async def get_ratios(request: web.Request) -> web.StreamResponse:
    """The declared ratios to the last digit; what an import takes."""
    ratios = await list_ratios(request.app[DATABASE])
    return answer_json(request, RATIO_LINES.dump_json([ratio_line(each) for each in ratios]))


async def post_ratio(request: web.Request) -> web.StreamResponse:
    """Declare one ratio, and say what that does."""
    form = await parse_body(request, RATIO_CHANGE)
    author = Author(actor=request[CALLER].name, reason=form.reason)
    database = request.app[DATABASE]
    try:
        ratio = Ratio(key=form.key, value=form.value)
        change = await set_ratio(database, ratio, author, form.starts_at)
    except StartError as error:
        words = f"startsAt: {error}"
        raise Problem(HTTPStatus.CONFLICT, words, errors={"startsAt": [str(error)]}) from error
    shadows = await shadows_of(database, form.key)
    return answer_json(request, RATIO_DIFFERENCE.dump_json(ratio_difference(change, shadows)))


async def delete_ratio_of_query(request: web.Request) -> web.StreamResponse:
    """Withdraw one ratio, scheduled versions included."""
    asked = parse_query(request, DELETION_QUERY)
    author = Author(actor=request[CALLER].name, reason=asked.reason)
    change = await delete_ratio(request.app[DATABASE], asked.key, author)
    if change is None:
        raise Problem(HTTPStatus.NOT_FOUND, "there is no ratio with this key")
    return answer_json(request, RATIO_DIFFERENCE.dump_json(ratio_difference(change)))


async def import_price_list(request: web.Request) -> web.StreamResponse:
    """Declare many ratios at once, or say what that would do."""
    form = await parse_body(request, RATIO_IMPORT, limit=LARGE_BODY)
    changes = await import_ratios(
        request.app[DATABASE],
        [Ratio(key=key, value=value) for key, value in form.ratios.items()],
        Author(actor=request[CALLER].name, reason=form.reason),
        replaces_all=form.replaces_all,
        is_dry_run=form.is_dry_run,
    )
    shown = [ratio_difference(each) for each in changes]
    return answer_json(request, RATIO_DIFFERENCES.dump_json(shown))


async def get_history(request: web.Request) -> web.StreamResponse:
    """Every version of one key, or of all."""
    asked = parse_query(request, KEY_QUERY)
    versions = await list_history(request.app[DATABASE], asked.key)
    return answer_json(request, RATIO_VERSIONS.dump_json([ratio_version(v) for v in versions]))


async def get_findings(request: web.Request) -> web.StreamResponse:
    """What is wrong with the declared ratios."""
    found = await check_ratios(request.app[DATABASE])
    return answer_json(request, RATIO_FINDINGS.dump_json(ratio_findings(found)))


async def get_nodes(request: web.Request) -> web.StreamResponse:
    """Every node that ever spoke."""
    nodes = await list_nodes(request.app[DATABASE])
    return answer_json(request, NODE_LINES.dump_json([node_line(each) for each in nodes]))


async def get_usage_details(request: web.Request) -> web.StreamResponse:
    """Items with all their quantities."""
    which = parse_query(request, ITEM_QUERY).to_filter()
    if which.matches_nothing:
        return answer_json(request, b"[]")
    async with list_items(request.app[DATABASE], which) as listing:
        return await answer_array(request, listing.rows, usage_detail, USAGE_DETAILS)


_TAG = "Administration"
_BODY_PROBLEMS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)

ROUTES = (
    Route(
        method="GET",
        path="/api/admin/v1/ratios",
        handler=get_ratios,
        operation_id="listRatios",
        tag=_TAG,
        summary="Declared ratios, exactly",
        answers={HTTPStatus.OK: Answer(description="By key", adapter=RATIO_LINES)},
    ),
    Route(
        method="POST",
        path="/api/admin/v1/ratios",
        handler=post_ratio,
        operation_id="setRatio",
        tag=_TAG,
        summary="Declare a ratio, now or from a whole minute in the future",
        role=Role.ADMIN,
        body=RATIO_CHANGE,
        answers={HTTPStatus.OK: Answer(description="What it does", adapter=RATIO_DIFFERENCE)},
        problems=(*_BODY_PROBLEMS, HTTPStatus.CONFLICT),
    ),
    Route(
        method="DELETE",
        path="/api/admin/v1/ratios",
        handler=delete_ratio_of_query,
        operation_id="deleteRatio",
        tag=_TAG,
        summary="Withdraw a ratio and its scheduled versions",
        role=Role.ADMIN,
        query=DELETION_QUERY,
        answers={HTTPStatus.OK: Answer(description="What it does", adapter=RATIO_DIFFERENCE)},
        problems=(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND),
    ),
    Route(
        method="POST",
        path="/api/admin/v1/ratios/import",
        handler=import_price_list,
        operation_id="importRatios",
        tag=_TAG,
        summary="Declare a price list, or show the difference that it would make",
        role=Role.ADMIN,
        body=RATIO_IMPORT,
        answers={
            HTTPStatus.OK: Answer(description="What it does to each key", adapter=RATIO_DIFFERENCES)
        },
        problems=_BODY_PROBLEMS,
    ),
    Route(
        method="GET",
        path="/api/admin/v1/ratios/history",
        handler=get_history,
        operation_id="listRatioHistory",
        tag=_TAG,
        summary="Every version of a ratio, or of all",
        query=KEY_QUERY,
        answers={
            HTTPStatus.OK: Answer(
                description="By key, the newest declaration first", adapter=RATIO_VERSIONS
            )
        },
        problems=(HTTPStatus.BAD_REQUEST,),
    ),
    Route(
        method="GET",
        path="/api/admin/v1/ratios/check",
        handler=get_findings,
        operation_id="checkRatios",
        tag=_TAG,
        summary="Keys that price nothing, shadowed prices, usage without a price",
        answers={HTTPStatus.OK: Answer(description="Findings", adapter=RATIO_FINDINGS)},
    ),
    Route(
        method="GET",
        path="/api/admin/v1/nodes",
        handler=get_nodes,
        operation_id="listNodes",
        tag=_TAG,
        summary="Nodes that ever spoke",
        answers={HTTPStatus.OK: Answer(description="By name", adapter=NODE_LINES)},
    ),
    Route(
        method="GET",
        path="/api/admin/v1/usages",
        handler=get_usage_details,
        operation_id="listUsageDetails",
        tag=_TAG,
        summary="Items with quota, allocated, used, effective and coverage",
        query=ITEM_QUERY,
        answers={HTTPStatus.OK: Answer(description="Newest first", adapter=USAGE_DETAILS)},
        problems=(HTTPStatus.BAD_REQUEST,),
        timeout_seconds=600.0,
    ),
)
