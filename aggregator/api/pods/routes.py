"""The Pods API: parse, ask, render. Nothing is computed here."""

from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus

from aiohttp import web

from aggregator.api.auth import Role
from aggregator.api.lists import answer_list
from aggregator.api.parse import parse_query
from aggregator.api.pods.shapes import (
    BILLING_RECORDS,
    ENDPOINTS_QUERY,
    LIVE_RECORDS,
    PODS_QUERY,
    VOLUMES_QUERY,
    GpuQuery,
    IdName,
    records_form,
)
from aggregator.api.problem import Problem
from aggregator.api.route import BASE_CURRENCY, CALLER, DATABASE, PODS_LIVE, Answer, Route
from aggregator.billing.pods import Asked, RangeError, list_records
from aggregator.rating.currency import NoRateError

LIST_SECONDS = 600.0

SERVICE = "service"
"""The kind of jobs that the original calls endpoints."""


async def get_pods(request: web.Request) -> web.StreamResponse:
    """Every pod or GPU type, bucket by bucket."""
    query = parse_query(request, PODS_QUERY)
    id_name = query.grouping or "gpuTypeId"
    return await _answer(request, _asked(query, id_name, query.pod_id), id_name)


async def get_endpoints(request: web.Request) -> web.StreamResponse:
    """Every endpoint, pod of one or GPU type, bucket by bucket."""
    query = parse_query(request, ENDPOINTS_QUERY)
    id_name = query.grouping or "endpointId"
    asked = _asked(query, id_name, query.endpoint_id, kind=SERVICE)
    return await _answer(request, asked, id_name)


def _asked(query: GpuQuery, id_name: IdName, job_id: str | None, kind: str | None = None) -> Asked:
    return Asked(
        of="models" if id_name == "gpuTypeId" else "pods",
        bucket=query.bucket_size or "day",
        start=query.start_time,
        end=query.end_time,
        job_id=job_id,
        gpu=query.gpu_type_id,
        kind=kind,
    )


async def get_network_volumes(request: web.Request) -> web.StreamResponse:
    """All storage, bucket by bucket."""
    query = parse_query(request, VOLUMES_QUERY)
    asked = Asked(
        of="storage",
        bucket=query.bucket_size or "day",
        start=query.start_time,
        end=query.end_time,
        job_id=query.network_volume_id,
    )
    return await _answer(request, asked, None)


async def _answer(request: web.Request, asked: Asked, id_name: IdName | None) -> web.StreamResponse:
    base, scope = request.app[BASE_CURRENCY], request[CALLER].scope
    try:
        async with list_records(request.app[DATABASE], asked, base, scope) as listing:
            form = records_form(listing, id_name, is_live=request.app[PODS_LIVE])
            return await answer_list(request, listing.rows, form)
    except RangeError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, str(error)) from error
    except NoRateError as error:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from error


_TIMES = (
    "The range is widened to whole buckets in UTC: its start to the beginning of the bucket in"
    " which it lies, its end, which is exclusive, to the end of one; weeks start on Monday."
    " Records are ordered by time, then id. Hours may be asked for over 31 days, days over five"
    " years. Amounts are in USD, by the rate of the day of each charge; a day without one is 503."
)

_PODS = (
    "A pod is a job, whatever its kind, with all that it is charged. Grouped by GPU type, pods"
    " without a device are left out, and what one with several models is charged is split"
    " between them day by day (by hours: hour by hour) by device x ms, so that the parts sum up"
    " to the whole exactly. " + _TIMES
)


_EXAMPLE = {
    "amount": 100.5,
    "diskSpaceBilledGb": 50,
    "time": "2026-02-06T00:00:00Z",
    "timeBilledMs": 3_600_000,
}


def _records(**names: str) -> dict[HTTPStatus, Answer]:
    answer = Answer(
        description="Successful operation.", adapter=BILLING_RECORDS, example=[_EXAMPLE | names]
    )
    return {HTTPStatus.OK: answer}


ROUTES = (
    Route(
        method="GET",
        path="/v1/billing/pods",
        handler=get_pods,
        operation_id="PodBilling",
        tag="Pods",
        summary="Retrieve billing information about your Pods",
        description=_PODS,
        role=Role.SCOPED,
        query=PODS_QUERY,
        answers=_records(gpuTypeId="NVIDIA H200"),
        problems=(HTTPStatus.BAD_REQUEST,),
        timeout_seconds=LIST_SECONDS,
    ),
    Route(
        method="GET",
        path="/v1/billing/endpoints",
        handler=get_endpoints,
        operation_id="EndpointBilling",
        tag="Pods",
        summary="Retrieve billing information about your Serverless endpoints",
        description="An endpoint is a job of kind service. " + _PODS,
        role=Role.SCOPED,
        query=ENDPOINTS_QUERY,
        answers=_records(endpointId="chat-7f3a"),
        problems=(HTTPStatus.BAD_REQUEST,),
        timeout_seconds=LIST_SECONDS,
    ),
    Route(
        method="GET",
        path="/v1/billing/networkvolumes",
        handler=get_network_volumes,
        operation_id="NetworkVolumeBilling",
        tag="Pods",
        summary="Retrieve billing information about your network volumes",
        description="The storage that jobs hold, of all that are seen together. " + _TIMES,
        role=Role.SCOPED,
        query=VOLUMES_QUERY,
        answers=_records(),
        problems=(HTTPStatus.BAD_REQUEST,),
        timeout_seconds=LIST_SECONDS,
    ),
)


def as_written(routes: Sequence[Route], *, is_live: bool) -> Sequence[Route]:
    """The routes as they are to be documented where the live variant is written."""
    return [_live(each) if is_live and each in ROUTES else each for each in routes]


def _live(route: Route) -> Route:
    answer = route.answers[HTTPStatus.OK]
    live = replace(answer, adapter=LIVE_RECORDS, example=None)
    return replace(route, answers={HTTPStatus.OK: live})
