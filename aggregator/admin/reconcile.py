"""`nodemeter reconcile`: whether what was measured, charged and billed agrees."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

import typer

from aggregator.admin.client import Client, Record, record, records
from aggregator.admin.errors import UsageError
from aggregator.admin.output import Column, Format, note, show
from aggregator.admin.progress import tracked
from aggregator.admin.session import examples, session_of
from aggregator.admin.times import TimeWordsError, minute, wire_text

app = typer.Typer()

_SLICE = timedelta(hours=6)
_CHECKS = (
    Column(title="CHECK", field="check"),
    Column(title="LOOKED AT", field="checked", is_number=True),
    Column(title="FAILED", field="failed", is_number=True),
)
_MISMATCHES = (
    Column(title="CHECK", field="check"),
    Column(title="HOUR", field="hour"),
    Column(title="NODE", field="node"),
    Column(title="TYPE", field="type"),
    Column(title="SUBJECT", field="subject"),
    Column(title="QUANTITY", field="quantity"),
    Column(title="EXPECTED", field="expected", is_number=True),
    Column(title="FOUND", field="found", is_number=True),
)


@app.command(
    "reconcile",
    epilog=examples(
        "nodemeter reconcile --from 2026-11-01T00:00:00Z --to 2026-11-02T00:00:00Z",
        'nodemeter reconcile --from 2026-11-01T00:00Z --to 2026-12-01T00:00Z || echo "look"',
    ),
)
def reconcile(
    context: typer.Context,
    *,
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="A whole minute")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="The end, exclusive")],
) -> None:
    """Check that what was measured, charged and billed agrees.

    conservation: per node, type and hour, what jobs had, what was idle, unattributed and down is
    the capacity (devices exactly, cpu and memory to 1 per cent). usage: per meter and hour, what
    was charged is the raw usage, while that is kept. bills: each item is the sum of its charges
    and adjustments.

    The exit status is 0 if all holds and 1 if not; then the first rows that do not are shown.
    """
    try:
        first, last = minute(start), minute(end)
    except TimeWordsError as error:
        raise UsageError(str(error)) from error
    if last <= first:
        raise UsageError("--from must be before --to")
    session = session_of(context)
    found: list[Record] = []
    for since in tracked(_slices(first, last), "Reconciling"):
        found += _findings(session.client, since, min(since + _SLICE, last))
    wrong = [
        {"check": each["check"], **row} for each in found for row in records(each["mismatches"])
    ]
    if wrong or session.output is not Format.TABLE:
        show(wrong, _MISMATCHES, session.output)
    else:
        show(_summed(found), _CHECKS, session.output)
    failed = sum(int(str(each["failed"])) for each in found)
    if failed:
        note(f"{failed} things do not agree")
        raise typer.Exit(1)


def _slices(first: datetime, last: datetime) -> Sequence[datetime]:
    """The starts of the ranges that are asked for one by one."""
    count = -((first - last) // _SLICE)
    return [first + number * _SLICE for number in range(count)]


def _findings(client: Client, start: datetime, end: datetime) -> list[Record]:
    parameters = {"from": wire_text(start), "to": wire_text(end)}
    answer = record(client.get("/api/admin/v1/reconciliation", **parameters).body)
    return records(answer["findings"])


def _summed(found: Sequence[Record]) -> list[Record]:
    checks = dict.fromkeys(str(each["check"]) for each in found)
    return [
        {
            "check": check,
            **{
                name: sum(int(str(each[name])) for each in found if each["check"] == check)
                for name in ("checked", "failed")
            },
        }
        for check in checks
    ]
