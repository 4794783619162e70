"""Whether what was measured, charged and billed agrees, for administrators."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field, TypeAdapter

from aggregator.api.answer import answer_json
from aggregator.api.auth import Role
from aggregator.api.instants import Minute, UtcTime, optional_utc_text, utc_text
from aggregator.api.parse import parse_query
from aggregator.api.problem import refused
from aggregator.api.route import DATABASE, USAGE_DAYS, Answer, Route
from aggregator.api.wire import Double, wire
from aggregator.billing.reconcile import Finding, Mismatch, reconcile
from aggregator.model import Period
from aggregator.rating.money import number


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileQuery:
    """A range; its hours are whole, and those that are not settled are left out."""

    start: Annotated[Minute, Field(alias="from")]
    end: Annotated[Minute, Field(alias="to")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class MismatchLine:
    """Something that does not hold, in unit-hours or in money."""

    hour: UtcTime
    type: str | None
    node: Annotated[str | None, Field(description="Its name; of a bill its address")]
    subject: Annotated[str | None, Field(description="Job, account or bill item")]
    quantity: str
    expected: Annotated[Double | None, Field(description="Null: nobody accounted for it")]
    found: Double | None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class FindingLine:
    """What a check found."""

    check: Literal["conservation", "usage", "bills", "days"]
    starts_at: UtcTime
    ends_at: UtcTime
    checked: Annotated[int, Field(description="Node hours, meter hours, items, or days of them")]
    failed: int
    unknown: Annotated[
        int, Field(description="Node hours before the node's first account: nobody can judge")
    ]
    mismatches: Annotated[list[MismatchLine], Field(description="The first of them")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """All that was looked at."""

    holds: Annotated[bool, Field(description="Nothing that was looked at does not hold")]
    began_at: Annotated[UtcTime | None, Field(description="When there was first anything")]
    settled_until: Annotated[UtcTime, Field(description="Later hours were not looked at")]
    findings: list[FindingLine]


RECONCILE_QUERY = TypeAdapter(ReconcileQuery)
RECONCILIATION = TypeAdapter(Reconciliation)


async def get_reconciliation(request: web.Request) -> web.StreamResponse:
    """Look at a range."""
    asked = parse_query(request, RECONCILE_QUERY)
    if asked.end <= asked.start:
        raise refused("from", "must be before the end of the range")
    period = Period(start=asked.start, end=asked.end)
    found = await reconcile(request.app[DATABASE], period, usage_days=request.app[USAGE_DAYS])
    shape = Reconciliation(
        holds=not any(each.failed for each in found.findings),
        began_at=optional_utc_text(found.began_at),
        settled_until=utc_text(found.settled_until),
        findings=[_finding(each) for each in found.findings],
    )
    return answer_json(request, RECONCILIATION.dump_json(shape))


def _finding(finding: Finding) -> FindingLine:
    return FindingLine(
        check=finding.check,
        starts_at=utc_text(finding.period.start),
        ends_at=utc_text(finding.period.end),
        checked=finding.checked,
        failed=finding.failed,
        unknown=finding.unknown,
        mismatches=[_mismatch(each) for each in finding.mismatches],
    )


def _mismatch(found: Mismatch) -> MismatchLine:
    expected, there = found.shown(found.expected), found.shown(found.found)
    return MismatchLine(
        hour=utc_text(found.hour),
        type=found.type,
        node=found.node,
        subject=found.subject,
        quantity=found.quantity,
        expected=None if expected is None else number(expected),
        found=None if there is None else number(there),
    )


ROUTES = (
    Route(
        method="GET",
        path="/api/admin/v1/reconciliation",
        handler=get_reconciliation,
        operation_id="reconcile",
        tag="Administration",
        summary="Whether what was measured, charged and billed agrees",
        role=Role.VIEWER,
        description="conservation: per node, type and hour all of the capacity became something."
        " usage: what was booked is the raw usage, while that is kept. bills: items are the sums"
        " of their bookings. days: so are the daily sums, by item and by class of items.",
        query=RECONCILE_QUERY,
        answers={HTTPStatus.OK: Answer(description="Check by check", adapter=RECONCILIATION)},
        problems=(HTTPStatus.CONFLICT,),
        timeout_seconds=120.0,
    ),
)
