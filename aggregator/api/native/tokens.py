"""The administrators' endpoints for tokens. A token's secret is in one answer and no other."""

from dataclasses import asdict, dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Literal
from uuid import UUID

from aiohttp import web
from pydantic import Field, TypeAdapter

from aggregator.api.answer import answer_json
from aggregator.api.auth import Role
from aggregator.api.instants import Instant, UtcTime, optional_utc_text, utc_text
from aggregator.api.parse import parse_body, parse_query
from aggregator.api.problem import Problem
from aggregator.api.route import CALLER, DATABASE, Answer, Route
from aggregator.api.tokenbook import TOKENS
from aggregator.api.wire import RatioText, ReasonText, UuidText, wire
from aggregator.billing.audit import Author
from aggregator.billing.scope import Scope
from aggregator.billing.tokens import (
    LIFETIME,
    NameTakenError,
    NewToken,
    RoleName,
    Token,
    TokenRuleError,
    create_token,
    list_tokens,
    revoke_token,
    wanted_token,
)
from aggregator.clock import utc_now

_PATH = "/api/admin/v1/tokens"


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLine:
    """A token, without its secret, which is kept nowhere."""

    id: UUID
    name: Annotated[str, Field(description="Who acts, in every history")]
    role: RoleName
    user_id: Annotated[UUID | None, Field(description="Sees this user's usage alone")]
    vc_name: Annotated[str | None, Field(description="Sees this virtual cluster's alone")]
    project: Annotated[str | None, Field(description="Sees this project's alone")]
    state: Literal["valid", "expired", "revoked"]
    created_at: UtcTime
    created_by: str
    reason: str | None
    expires_at: UtcTime
    revoked_at: UtcTime | None
    revoked_by: str | None
    last_used_at: Annotated[UtcTime | None, Field(description="To the minute")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken(TokenLine):
    """A token that was just made."""

    token: Annotated[str, Field(description="The secret; it is never shown again")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class TokenForm:
    """A token to make."""

    name: RatioText
    role: Annotated[RoleName, Field(description="What it may do")] = "viewer"
    user_id: Annotated[
        UuidText | None, Field(description="A viewer of this user's usage alone")
    ] = None
    vc_name: Annotated[
        RatioText | None, Field(description="A viewer of this virtual cluster's usage alone")
    ] = None
    project: Annotated[
        RatioText | None, Field(description="A viewer of this project's usage alone")
    ] = None
    expires_at: Annotated[
        Instant | None,
        Field(description=f"When it ends; in {LIFETIME.days} days if it is not said"),
    ] = None
    reason: ReasonText | None = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationQuery:
    """Which token to end."""

    name: RatioText
    reason: ReasonText | None = None


TOKEN_LINES = TypeAdapter(list[TokenLine])
TOKEN_LINE = TypeAdapter(TokenLine)
ISSUED_TOKEN = TypeAdapter(IssuedToken)
TOKEN_FORM = TypeAdapter(TokenForm)
REVOCATION_QUERY = TypeAdapter(RevocationQuery)


async def get_tokens(request: web.Request) -> web.StreamResponse:
    """Every token there ever was."""
    tokens = await list_tokens(request.app[DATABASE])
    return answer_json(request, TOKEN_LINES.dump_json([token_line(each) for each in tokens]))


async def post_token(request: web.Request) -> web.StreamResponse:
    """Make one."""
    form = await parse_body(request, TOKEN_FORM)
    wanted = _wanted(form, utc_now())
    author = Author(actor=request[CALLER].name, reason=form.reason)
    try:
        issued = await create_token(request.app[DATABASE], wanted, author)
    except NameTakenError as error:
        words = "there is a token of this name: revoke it first, or choose another name"
        raise Problem(HTTPStatus.CONFLICT, words, errors={"name": [words]}) from error
    shown = IssuedToken(token=issued.secret, **asdict(token_line(issued.token)))
    body = ISSUED_TOKEN.dump_json(shown)
    return answer_json(request, body, status=HTTPStatus.CREATED)


async def delete_token_of_query(request: web.Request) -> web.StreamResponse:
    """End one, at once."""
    asked = parse_query(request, REVOCATION_QUERY)
    author = Author(actor=request[CALLER].name, reason=asked.reason)
    token = await revoke_token(request.app[DATABASE], asked.name, author)
    if token is None:
        raise Problem(HTTPStatus.NOT_FOUND, "there is no token of this name to revoke")
    request.app[TOKENS].forget()
    return answer_json(request, TOKEN_LINE.dump_json(token_line(token)))


def token_line(token: Token) -> TokenLine:
    """A token as it is shown."""
    state: Literal["valid", "expired", "revoked"]
    state = "revoked" if token.revoked_at else "expired" if token.is_expired else "valid"
    return TokenLine(
        id=token.token_id,
        name=token.name,
        role=token.role,
        user_id=token.user_id,
        vc_name=token.vc,
        project=token.project,
        state=state,
        created_at=utc_text(token.created_at),
        created_by=token.created_by,
        reason=token.reason,
        expires_at=utc_text(token.expires_at),
        revoked_at=optional_utc_text(token.revoked_at),
        revoked_by=token.revoked_by,
        last_used_at=optional_utc_text(token.last_used_at),
    )


def _wanted(form: TokenForm, now: datetime) -> NewToken:
    scope = Scope(user_id=form.user_id, vc=form.vc_name, project=form.project)
    try:
        return wanted_token(form.name, form.role, scope, form.expires_at, now)
    except TokenRuleError as error:
        words = f"{error.field}: {error}"
        raise Problem(HTTPStatus.CONFLICT, words, errors={error.field: [str(error)]}) from error


_TAG = "Administration"

ROUTES = (
    Route(
        method="GET",
        path=_PATH,
        handler=get_tokens,
        operation_id="listTokens",
        tag=_TAG,
        summary="Every token there ever was, without its secret",
        role=Role.ADMIN,
        answers={
            HTTPStatus.OK: Answer(
                description="Those that can be used first, by name", adapter=TOKEN_LINES
            )
        },
    ),
    Route(
        method="POST",
        path=_PATH,
        handler=post_token,
        operation_id="createToken",
        tag=_TAG,
        summary="Make a token; its secret is shown this once",
        role=Role.ADMIN,
        body=TOKEN_FORM,
        answers={HTTPStatus.CREATED: Answer(description="With its secret", adapter=ISSUED_TOKEN)},
        problems=(HTTPStatus.CONFLICT,),
    ),
    Route(
        method="DELETE",
        path=_PATH,
        handler=delete_token_of_query,
        operation_id="revokeToken",
        tag=_TAG,
        summary="End a token; within a second it is refused everywhere",
        role=Role.ADMIN,
        query=REVOCATION_QUERY,
        answers={HTTPStatus.OK: Answer(description="What was ended", adapter=TOKEN_LINE)},
        problems=(HTTPStatus.NOT_FOUND,),
    ),
)
