"""Who changed what is declared, and why, as the administrators' endpoint shows it."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from aiohttp import web
from pydantic import Field, TypeAdapter

from aggregator.api.answer import answer_json
from aggregator.api.auth import Role
from aggregator.api.instants import UtcTime, optional_utc_text, utc_text
from aggregator.api.parse import parse_query
from aggregator.api.route import DATABASE, Answer, Route
from aggregator.api.wire import Count, RatioText, wire
from aggregator.billing.audit import AuditedChange, list_changes

_LIMIT = 100


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """Which changes; all of them unless something is said."""

    subject: Annotated[
        RatioText | None, Field(description="Like ratio, method, quota or currency")
    ] = None
    key: RatioText | None = None
    actor: RatioText | None = None
    limit: Annotated[Count | None, Field(description=f"How many; {_LIMIT} if not said")] = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """A change of what is declared."""

    changed_at: UtcTime
    actor: str
    subject: str
    key: str
    action: str
    old: Annotated[str | None, Field(description="Null: nothing was declared")]
    new: Annotated[str | None, Field(description="Null: nothing is any more")]
    effective_at: UtcTime | None
    effective_until: Annotated[UtcTime | None, Field(description="Null: until a change")]
    reason: str | None


AUDIT_QUERY = TypeAdapter(AuditQuery)
AUDIT_LINES = TypeAdapter(list[AuditLine])


async def get_audit(request: web.Request) -> web.StreamResponse:
    """The newest changes first."""
    asked = parse_query(request, AUDIT_QUERY)
    changes = await list_changes(
        request.app[DATABASE],
        subject=asked.subject,
        key=asked.key,
        actor=asked.actor,
        limit=asked.limit or _LIMIT,
    )
    return answer_json(request, AUDIT_LINES.dump_json([_line(each) for each in changes]))


def _line(change: AuditedChange) -> AuditLine:
    return AuditLine(
        changed_at=utc_text(change.changed_at),
        actor=change.actor,
        subject=change.subject,
        key=change.key,
        action=change.action,
        old=change.old_value,
        new=change.new_value,
        effective_at=optional_utc_text(change.effective_at),
        effective_until=optional_utc_text(change.effective_until),
        reason=change.reason,
    )


ROUTES = (
    Route(
        method="GET",
        path="/api/admin/v1/audit",
        handler=get_audit,
        operation_id="listAudit",
        tag="Administration",
        summary="Who changed ratios, methods, quotas and currencies, when and why",
        role=Role.VIEWER,
        query=AUDIT_QUERY,
        answers={HTTPStatus.OK: Answer(description="Newest first", adapter=AUDIT_LINES)},
    ),
)
