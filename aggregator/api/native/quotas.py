"""The administrators' endpoints for quotas of projects."""

from decimal import Decimal
from http import HTTPStatus

from aiohttp import web

from aggregator.api.answer import answer_json
from aggregator.api.auth import Role
from aggregator.api.native.quota_shapes import (
    PROJECT_QUERY,
    QUOTA_CHANGE,
    QUOTA_DELETION,
    QUOTA_EFFECT,
    QUOTA_LINES,
    QUOTA_VERSIONS,
    RESERVED_LINES,
    RESERVED_QUERY,
    quota_effect,
    quota_line,
    quota_version,
    reserved_line,
)
from aggregator.api.parse import parse_body, parse_query
from aggregator.api.problem import Problem, refused
from aggregator.api.route import CALLER, DATABASE, Answer, Route
from aggregator.billing.audit import Author
from aggregator.billing.quotas import (
    UnknownProjectError,
    delete_quota,
    list_quota_history,
    list_quotas,
    list_reserved,
    set_quota,
)
from aggregator.model import Period, ResourceType
from aggregator.rating.price import EXACT
from aggregator.rating.versions import Declaration, EndError, StartError
from aggregator.units import UNITS, Unit

_LARGEST = 2**53


async def get_quotas(request: web.Request) -> web.StreamResponse:
    """What is reserved, and what will be."""
    asked = parse_query(request, PROJECT_QUERY)
    quotas = await list_quotas(request.app[DATABASE], asked.project)
    return answer_json(request, QUOTA_LINES.dump_json([quota_line(each) for each in quotas]))


async def post_quota(request: web.Request) -> web.StreamResponse:
    """Reserve a quantity for a project."""
    form = await parse_body(request, QUOTA_CHANGE)
    type_ = ResourceType(form.type)
    wanted = Declaration(
        value=_base_units(form.quantity, UNITS[type_]), start=form.starts_at, end=form.ends_at
    )
    author = Author(actor=request[CALLER].name, reason=form.reason)
    database = request.app[DATABASE]
    try:
        done = await set_quota(database, form.project, type_, wanted, author, is_new=form.is_new)
    except UnknownProjectError as error:
        raise refused("project", str(error)) from error
    except StartError as error:
        raise refused("startsAt", "must be a whole minute in the future") from error
    except EndError as error:
        raise refused("endsAt", str(error)) from error
    return answer_json(request, QUOTA_EFFECT.dump_json(quota_effect(done)))


async def delete_quota_of_query(request: web.Request) -> web.StreamResponse:
    """Reserve nothing of a type for a project from the next minute on."""
    asked = parse_query(request, QUOTA_DELETION)
    author = Author(actor=request[CALLER].name, reason=asked.reason)
    type_ = ResourceType(asked.type)
    done = await delete_quota(request.app[DATABASE], asked.project, type_, author)
    if done is None:
        raise Problem(HTTPStatus.NOT_FOUND, "nothing of this type is reserved for this project")
    return answer_json(request, QUOTA_EFFECT.dump_json(quota_effect(done)))


async def get_quota_history(request: web.Request) -> web.StreamResponse:
    """Every version."""
    asked = parse_query(request, PROJECT_QUERY)
    versions = await list_quota_history(request.app[DATABASE], asked.project)
    lines = [quota_version(each) for each in versions]
    return answer_json(request, QUOTA_VERSIONS.dump_json(lines))


async def get_reserved(request: web.Request) -> web.StreamResponse:
    """Quota x hours over a range."""
    asked = parse_query(request, RESERVED_QUERY)
    if asked.end <= asked.start:
        raise refused("from", "must be before the end of the range")
    period = Period(start=asked.start, end=asked.end)
    found = await list_reserved(request.app[DATABASE], period, asked.project)
    lines = [reserved_line(each) for each in found]
    return answer_json(request, RESERVED_LINES.dump_json(lines))


def _base_units(quantity: Decimal, unit: Unit) -> int:
    """The quantity in base units; a Problem if it is no whole number of them."""
    base = EXACT.multiply(quantity, Decimal(unit.base_units))
    if base != base.to_integral_value() or base > _LARGEST:
        raise refused("quantity", f"must be a multiple of 1/{unit.base_units}, and not huge")
    return int(base)


_PATH = "/api/admin/v1/quotas"
_TAG = "Administration"

ROUTES = (
    Route(
        method="GET",
        path=_PATH,
        handler=get_quotas,
        operation_id="listQuotas",
        tag=_TAG,
        summary="What is reserved for projects, now and later",
        role=Role.VIEWER,
        query=PROJECT_QUERY,
        answers={HTTPStatus.OK: Answer(description="By project and type", adapter=QUOTA_LINES)},
    ),
    Route(
        method="POST",
        path=_PATH,
        handler=post_quota,
        operation_id="setQuota",
        tag=_TAG,
        summary="Reserve a quantity for a project",
        role=Role.ADMIN,
        body=QUOTA_CHANGE,
        answers={HTTPStatus.OK: Answer(description="What it does", adapter=QUOTA_EFFECT)},
        problems=(HTTPStatus.CONFLICT,),
    ),
    Route(
        method="DELETE",
        path=_PATH,
        handler=delete_quota_of_query,
        operation_id="deleteQuota",
        tag=_TAG,
        summary="Reserve nothing of a type for a project any more",
        role=Role.ADMIN,
        query=QUOTA_DELETION,
        answers={HTTPStatus.OK: Answer(description="What it does", adapter=QUOTA_EFFECT)},
        problems=(HTTPStatus.NOT_FOUND,),
    ),
    Route(
        method="GET",
        path=f"{_PATH}/history",
        handler=get_quota_history,
        operation_id="listQuotaHistory",
        tag=_TAG,
        summary="Every version of the quotas of projects",
        role=Role.VIEWER,
        query=PROJECT_QUERY,
        answers={HTTPStatus.OK: Answer(description="Newest first", adapter=QUOTA_VERSIONS)},
    ),
    Route(
        method="GET",
        path=f"{_PATH}/reserved",
        handler=get_reserved,
        operation_id="listReserved",
        tag=_TAG,
        summary="Quota x hours over a range, whether it was used or not",
        role=Role.VIEWER,
        query=RESERVED_QUERY,
        answers={HTTPStatus.OK: Answer(description="By project and type", adapter=RESERVED_LINES)},
        problems=(HTTPStatus.CONFLICT,),
    ),
)
