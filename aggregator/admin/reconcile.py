"""`nodemeter reconcile`: whether what was measured, charged and billed agrees."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Annotated

import typer

from aggregator.admin.client import Client, Record, record, records
from aggregator.admin.errors import AdminError, UsageError
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
    and adjustments. days: so are the daily sums that long ranges are answered from.

    The exit status is 0 if all holds and 1 if not; then the first rows that do not are shown. It
    is 1, too, if there was nothing to look at. An hour can be looked at ten minutes after it.
    """
    try:
        first, last = minute(start), minute(end)
    except TimeWordsError as error:
        raise UsageError(str(error)) from error
    if last <= first:
        raise UsageError("--from must be before --to")
    session = session_of(context)
    asked = _ask_all(session.client, _whole_hour(first), last)
    found = [finding for each in asked for finding in records(each["findings"])]
    if not _count(found, "checked"):
        raise AdminError(_why_nothing(asked[0], first, last))
    wrong = [
        {"check": each["check"], **row} for each in found for row in records(each["mismatches"])
    ]
    if wrong or session.output is not Format.TABLE:
        show(wrong, _MISMATCHES, session.output)
    else:
        show(_summed(found), _CHECKS, session.output)
    for words in _left_out(asked[0], found, last):
        note(words)
    if failed := _count(found, "failed"):
        note(f"{failed} things do not agree")
        raise typer.Exit(1)


def _ask_all(client: Client, first: datetime, last: datetime) -> list[Record]:
    """The answers for a range, piece by piece, as far as there is anything in it."""
    head = _ask(client, first, min(first + _SLICE, last))
    since = max(first + _SLICE, _whole_hour(_instant(head["beganAt"]) or last))
    until = min(last, _instant(head["settledUntil"]) or last)
    starts = _slices(since, until) if since < until else ()
    rest = tracked(starts, "Reconciling")
    return [head, *(_ask(client, each, min(each + _SLICE, last)) for each in rest)]


def _slices(first: datetime, last: datetime) -> Sequence[datetime]:
    """The starts of the pieces that are asked for one by one."""
    count = -((first - last) // _SLICE)
    return [first + number * _SLICE for number in range(count)]


def _ask(client: Client, start: datetime, end: datetime) -> Record:
    parameters = {"from": wire_text(start), "to": wire_text(end)}
    return record(client.get("/api/admin/v1/reconciliation", **parameters).body)


def _whole_hour(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)


def _instant(value: object) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else None


def _count(found: Sequence[Record], name: str) -> int:
    return sum(int(str(each[name])) for each in found)


def _why_nothing(head: Record, first: datetime, last: datetime) -> str:
    """Why there was nothing to look at in a range."""
    settled, began = _instant(head["settledUntil"]), head["beganAt"]
    if settled and settled <= first:
        return (
            f"nothing was looked at: hours are settled until {head['settledUntil']} so far, each "
            "ten minutes after it"
        )
    said = f"; there was first anything at {began}" if began else " yet"
    return f"nothing was looked at: nothing was metered before {wire_text(last)}{said}"


def _left_out(head: Record, found: Sequence[Record], last: datetime) -> Iterator[str]:
    """What of the range was not looked at, and why."""
    settled = _instant(head["settledUntil"])
    if settled and settled < last:
        yield f"hours from {head['settledUntil']} on are not settled, and were not looked at"
    if unknown := _count(found, "unknown"):
        yield (
            f"{unknown} hours were not looked at, each of one type on one node: jobs ran there, "
            "and the node did not account yet for what it has of it"
        )
    usages, bills = (_of(found, check) for check in ("usage", "bills"))
    starts = [(str(raw["startsAt"]), each) for raw, each in zip(usages, bills, strict=True)]
    dropped = [at for at, each in starts if each["checked"] and at > str(each["startsAt"])]
    if dropped:
        yield f"before {max(dropped)} there is no raw usage any more to compare with"


def _of(found: Sequence[Record], check: str) -> Sequence[Record]:
    return [each for each in found if each["check"] == check]


def _summed(found: Sequence[Record]) -> list[Record]:
    names = ("checked", "failed")
    return [
        {"check": check, **{name: _count(_of(found, check), name) for name in names}}
        for check in dict.fromkeys(str(each["check"]) for each in found)
    ]
