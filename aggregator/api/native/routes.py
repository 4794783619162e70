"""The administrators' endpoints for nodes, and for usage in detail."""

from http import HTTPStatus

from aiohttp import web

from aggregator.api.answer import answer_json
from aggregator.api.auth import Role
from aggregator.api.item_query import ITEM_QUERY, next_link, parse_items
from aggregator.api.lists import answer_array
from aggregator.api.native.item_shapes import (
    NODE_LINES,
    USAGE_DETAILS,
    node_line,
    usage_detail,
)
from aggregator.api.route import CALLER, DATABASE, Answer, Route
from aggregator.billing.item_lists import list_measured_items
from aggregator.billing.items import list_nodes


async def get_nodes(request: web.Request) -> web.StreamResponse:
    """Every node that ever spoke."""
    nodes = await list_nodes(request.app[DATABASE], request[CALLER].scope)
    return answer_json(request, NODE_LINES.dump_json([node_line(each) for each in nodes]))


async def get_usage_details(request: web.Request) -> web.StreamResponse:
    """Items with all their quantities."""
    asked = parse_items(request)
    if asked.matches_nothing:
        return answer_json(request, b"[]")
    async with list_measured_items(request.app[DATABASE], asked, request[CALLER].scope) as listing:
        headers = next_link(request, listing.following)
        return await answer_array(
            request, listing.rows, usage_detail, USAGE_DETAILS, headers=headers
        )


_TAG = "Administration"
ROUTES = (
    Route(
        method="GET",
        path="/api/admin/v1/nodes",
        handler=get_nodes,
        operation_id="listNodes",
        tag=_TAG,
        summary="Nodes that ever spoke",
        role=Role.SCOPED,
        answers={HTTPStatus.OK: Answer(description="By name", adapter=NODE_LINES)},
    ),
    Route(
        method="GET",
        path="/api/admin/v1/usages",
        handler=get_usage_details,
        operation_id="listUsageDetails",
        tag=_TAG,
        summary="Items with quota, allocated, used, effective and coverage",
        role=Role.SCOPED,
        query=ITEM_QUERY,
        answers={HTTPStatus.OK: Answer(description="Newest first", adapter=USAGE_DETAILS)},
        timeout_seconds=600.0,
    ),
)
