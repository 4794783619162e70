"""The billing methods of the types, as the administrators' endpoints read and write them."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from aiohttp import web
from pydantic import Field, TypeAdapter

from aggregator.api.answer import answer_json
from aggregator.api.auth import Role
from aggregator.api.instants import Minute, UtcTime, optional_utc_text, utc_text
from aggregator.api.parse import parse_body, parse_query
from aggregator.api.problem import Problem
from aggregator.api.route import CALLER, DATABASE, Answer, Route
from aggregator.api.wire import MethodName, ReasonText, TypeName, wire
from aggregator.billing.audit import Author
from aggregator.billing.methods import list_method_history, list_methods, set_method
from aggregator.model import Method, ResourceType
from aggregator.rating.versions import StartError


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class MethodLine:
    """What of a type's usage is billed."""

    type: str
    method: str
    starts_at: Annotated[
        UtcTime | None, Field(description="When it takes effect; null: it is in force")
    ]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class MethodChange:
    """A method to bill a type by."""

    type: TypeName
    method: MethodName
    starts_at: Annotated[
        Minute | None, Field(description="A whole minute in the future; null: the next one")
    ] = None
    reason: ReasonText | None = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class MethodEffect:
    """What a change does."""

    type: str
    old: str
    new: str
    effective_at: Annotated[UtcTime | None, Field(description="Null: nothing changes")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class MethodVersionLine:
    """A version of a type's method."""

    type: str
    method: str
    starts_at: Annotated[UtcTime | None, Field(description="Null: from the beginning")]
    ends_at: UtcTime | None
    created_at: UtcTime
    created_by: str
    reason: str | None
    closed_at: UtcTime | None
    closed_by: str | None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class TypeQuery:
    """One usage type."""

    type: TypeName | None = None


METHOD_LINES = TypeAdapter(list[MethodLine])
METHOD_CHANGE = TypeAdapter(MethodChange)
METHOD_EFFECT = TypeAdapter(MethodEffect)
METHOD_VERSIONS = TypeAdapter(list[MethodVersionLine])
TYPE_QUERY = TypeAdapter(TypeQuery)


async def get_methods(request: web.Request) -> web.StreamResponse:
    """The method of each type, and those that begin later."""
    lines = [
        MethodLine(type=each.type, method=each.method, starts_at=optional_utc_text(each.starts_at))
        for each in await list_methods(request.app[DATABASE])
    ]
    return answer_json(request, METHOD_LINES.dump_json(lines))


async def post_method(request: web.Request) -> web.StreamResponse:
    """Bill a type by another method from now on, or later."""
    form = await parse_body(request, METHOD_CHANGE)
    author = Author(actor=request[CALLER].name, reason=form.reason)
    type_, method = ResourceType(form.type), Method(form.method)
    try:
        done = await set_method(request.app[DATABASE], type_, method, author, form.starts_at)
    except StartError as error:
        reason = "must be in the future: what has been used keeps its method"
        fault = {"startsAt": [reason]}
        raise Problem(HTTPStatus.CONFLICT, f"startsAt: {reason}", errors=fault) from error
    effect = MethodEffect(
        type=done.type.value,
        old=done.old.value,
        new=done.new.value,
        effective_at=optional_utc_text(done.effective_at),
    )
    return answer_json(request, METHOD_EFFECT.dump_json(effect))


async def get_method_history(request: web.Request) -> web.StreamResponse:
    """Every version of a type's method, or of all."""
    asked = parse_query(request, TYPE_QUERY)
    lines = [
        MethodVersionLine(
            type=each.type,
            method=each.method,
            starts_at=optional_utc_text(each.starts_at),
            ends_at=optional_utc_text(each.ends_at),
            created_at=utc_text(each.created_at),
            created_by=each.created_by,
            reason=each.reason,
            closed_at=optional_utc_text(each.closed_at),
            closed_by=each.closed_by,
        )
        for each in await list_method_history(request.app[DATABASE], asked.type)
    ]
    return answer_json(request, METHOD_VERSIONS.dump_json(lines))


_PATH = "/api/admin/v1/methods"
_TAG = "Administration"

ROUTES = (
    Route(
        method="GET",
        path=_PATH,
        handler=get_methods,
        operation_id="listMethods",
        tag=_TAG,
        summary="What of each type's usage is billed",
        role=Role.VIEWER,
        answers={HTTPStatus.OK: Answer(description="By type and start", adapter=METHOD_LINES)},
    ),
    Route(
        method="POST",
        path=_PATH,
        handler=post_method,
        operation_id="setMethod",
        tag=_TAG,
        summary="Bill a type by another method, from the next minute on or later",
        description="What has been used keeps the method of its time.",
        role=Role.ADMIN,
        body=METHOD_CHANGE,
        answers={HTTPStatus.OK: Answer(description="What it does", adapter=METHOD_EFFECT)},
        problems=(HTTPStatus.CONFLICT,),
    ),
    Route(
        method="GET",
        path=f"{_PATH}/history",
        handler=get_method_history,
        operation_id="listMethodHistory",
        tag=_TAG,
        summary="Every version of a type's method, or of all",
        role=Role.VIEWER,
        query=TYPE_QUERY,
        answers={HTTPStatus.OK: Answer(description="Newest first", adapter=METHOD_VERSIONS)},
    ),
)
