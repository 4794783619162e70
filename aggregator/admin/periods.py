"""`nodemeter periods list|show|close` and `nodemeter adjustments`: months, and what they hold."""

from typing import Annotated
from urllib.parse import quote

import typer

from aggregator.admin.client import Number, Record, record, records
from aggregator.admin.errors import AdminError, UsageError
from aggregator.admin.output import Column, Format, note, show, show_table
from aggregator.admin.session import Reason, Yes, confirmed, examples, session_of
from aggregator.rating.month import MonthError, parse_month

app = typer.Typer(help="Billing periods: calendar months in UTC.", no_args_is_help=True)
adjustments_app = typer.Typer()

BASE = "/api/admin/v1/periods"
_CLOSE_SECONDS = 1200.0

Month = Annotated[str, typer.Argument(metavar="MONTH", help="A month like 2026-10")]

_PERIODS = (
    Column(title="PERIOD", field="period"),
    Column(title="STATE", field="state"),
    Column(title="CLOSED", field="closedAt"),
    Column(title="BY", field="closedBy"),
    Column(title="CHARGES", field="charges", is_number=True),
    Column(title="ADJUSTMENTS", field="adjustments", is_number=True),
    Column(title="ITEMS", field="items", is_number=True),
    Column(title="DIGEST", field="digest"),
)
_TOTALS = (
    Column(title="TYPE", field="type"),
    Column(title="ITEMS", field="items", is_number=True),
    Column(title="UNIT", field="unit"),
    Column(title="UNIT-HOURS", field="usage", is_number=True),
    Column(title="UNPRICED", field="unpriced", is_number=True),
    Column(title="FEE", field="fee", is_number=True),
    Column(title="OF IT ADJUSTED", field="adjusted", is_number=True),
)
_ADJUSTMENTS = (
    Column(title="COUNTS IN", field="period"),
    Column(title="FOR USAGE OF", field="usedHour"),
    Column(title="KIND", field="kind"),
    Column(title="JOB", field="jobId"),
    Column(title="USER", field="username"),
    Column(title="TYPE", field="type"),
    Column(title="DEVICE", field="device"),
    Column(title="UNIT-HOURS", field="usage", is_number=True),
    Column(title="PRICE", field="price", is_number=True, is_exact=True),
    Column(title="FEE", field="fee", is_number=True),
    Column(title="BOOKED", field="bookedAt"),
)


@app.command("list", epilog=examples("nodemeter periods list"))
def list_periods(context: typer.Context) -> None:
    """Show all months since the first usage: closed, open, or running still."""
    session = session_of(context)
    show(session.client.get_list(BASE), _PERIODS, session.output)


@app.command(
    "show",
    epilog=examples("nodemeter periods show 2026-10", "nodemeter periods show 2026-10 --verify"),
)
def show_period(
    context: typer.Context,
    *,
    month: Month,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compute the digest anew; status 1 if it differs")
    ] = False,
) -> None:
    """Show what a month comes to, by type."""
    session = session_of(context)
    _check_month(month)
    asked = "true" if verify else None
    found = record(session.client.get(f"{BASE}/{quote(month, safe='')}", verify=asked).body)
    if session.output is Format.TABLE:
        show_table([found], _PERIODS)
        show_table(records(found["totals"]), _TOTALS)
    else:
        show([found], _PERIODS, session.output)
    if verify:
        _compare(found)


@app.command(
    "close",
    epilog=examples(
        "nodemeter periods close 2026-10",
        'nodemeter periods close 2026-10 --reason "invoices of October" --yes',
        "nodemeter periods close 2026-10 --with-unpriced",
    ),
)
def close_period(
    context: typer.Context,
    *,
    month: Month,
    reason: Reason = None,
    wait: Annotated[
        int, typer.Option(min=0, max=300, help="Seconds to wait for the rater to catch up")
    ] = 60,
    with_unpriced: Annotated[
        bool, typer.Option("--with-unpriced", help="Also if usage has no price")
    ] = False,
    yes: Yes = False,
) -> None:
    """Freeze a month that is over, for ever.

    Usage without a price would stay without one in this month for ever, since what is priced
    later is booked into the open one: so it is told, with what prices it, and nothing is closed
    unless you say --with-unpriced.

    What is told of it later, and what is rated anew, is booked into the open month as an
    adjustment that names the hour of the usage. Months are closed in order. Closing a closed
    one changes nothing.
    """
    session = session_of(context)
    _check_month(month)
    if not confirmed(f"Close {month} for ever?", is_agreed=yes):
        raise AdminError("nothing was closed")
    body = {
        "period": month,
        "reason": reason,
        "waitSeconds": wait,
        "withUnpriced": with_unpriced,
    }
    answer = session.client.post(f"{BASE}/close", body, timeout=_CLOSE_SECONDS + wait)
    closed = record(answer.body)
    show([closed], _PERIODS, session.output)
    if not closed["items"]:
        note(f"nothing was metered in {month}: what is told of it later counts in the open month")


@adjustments_app.command(
    "adjustments",
    epilog=examples(
        "nodemeter adjustments --period 2026-11",
        "nodemeter adjustments --used-period 2026-10",
        "nodemeter adjustments --rerate 7 --output csv > lines.csv",
    ),
)
def adjustments(
    context: typer.Context,
    *,
    period: Annotated[str | None, typer.Option(help="The month in which they count")] = None,
    used_period: Annotated[str | None, typer.Option(help="The month of the usage")] = None,
    rerate: Annotated[int | None, typer.Option(min=1, help="Number of a re-rating")] = None,
    item: Annotated[str | None, typer.Option(help="Id of a bill item")] = None,
) -> None:
    """Show what was booked for usage whose charges could not be edited any more.

    late: told after its month was closed. reversal and rerated: by `nodemeter rerate`, a
    charge taken back and the same at another price.
    """
    session = session_of(context)
    rows = session.client.get_list(
        "/api/admin/v1/adjustments",
        period=period,
        usedPeriod=used_period,
        rerate=None if rerate is None else str(rerate),
        item=item,
    )
    exact = [row | {"price": _number(row["price"])} for row in rows]
    show(exact, _ADJUSTMENTS, session.output)
    if not rows:
        note("there are no adjustments of this kind")


def _check_month(month: str) -> None:
    """Raise UsageError for what names no month."""
    try:
        parse_month(month)
    except MonthError as error:
        raise UsageError(f"MONTH {error}, not {month!r}") from error


def _compare(found: Record) -> None:
    if found["digest"] is None:
        note(f"{found['period']} is not closed: its digest now is {found['recomputed']}")
    elif found["digest"] == found["recomputed"]:
        note("verified: what is stored now has the digest of the close")
    else:
        raise AdminError(
            f"what is stored now has the digest {found['recomputed']}: somebody changed the "
            "database. Restore it from a backup, and find out who could write to it"
        )


def _number(price: object) -> Number | None:
    return Number(price) if isinstance(price, str) else None
