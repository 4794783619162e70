"""`nodemeter currencies list|set`: rates from the base currency, by day."""

from typing import Annotated

import typer

from aggregator.admin.client import Number, record
from aggregator.admin.errors import UsageError
from aggregator.admin.output import Column, note, show
from aggregator.admin.prices import PriceWordsError, to_value
from aggregator.admin.session import Reason, examples, session_of
from aggregator.admin.times import TimeWordsError, day
from aggregator.rating.money import plain

app = typer.Typer(help="Currencies: rates from the base currency, by day.", no_args_is_help=True)

_PATH = "/api/admin/v1/currencies"
_RATES = (
    Column(title="BASE", field="base"),
    Column(title="CURRENCY", field="currency"),
    Column(title="RATE", field="rate", is_number=True, is_exact=True),
    Column(title="FROM", field="startsOn"),
    Column(title="TO", field="endsOn"),
    Column(title="SET BY", field="createdBy"),
    Column(title="REASON", field="reason"),
)
_EFFECT = _RATES[:4]


@app.command("list", epilog=examples("nodemeter currencies list"))
def list_rates(context: typer.Context) -> None:
    """Show all rates, by currency, the newest day first.

    TO is exclusive. A charge is converted by the rate of its own day.
    """
    session = session_of(context)
    rows = [{**row, "rate": Number(str(row["rate"]))} for row in session.client.get_list(_PATH)]
    show(rows, _RATES, session.output)
    if not rows:
        note("no rates are declared: all money is in the base currency")


@app.command(
    "set",
    epilog=examples(
        "nodemeter currencies set EUR 0.92",
        'nodemeter currencies set EUR 0.95 --from 2027-01-01 --reason "central bank"',
    ),
    context_settings={"ignore_unknown_options": True},
)
def set_rate(
    context: typer.Context,
    *,
    currency: Annotated[str, typer.Argument(help="A code like EUR")],
    rate: Annotated[str, typer.Argument(help="How much of it one unit of the base currency is")],
    start: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="The first day, in UTC; today")
    ] = None,
    reason: Reason = None,
) -> None:
    """Declare a rate from a day on, until a later one.

    A day that has begun keeps the rate that it has; a past day may be given one if it has
    none.
    """
    try:
        value = to_value("", rate, None)
        first = None if start is None else day(start).isoformat()
    except PriceWordsError as error:
        raise UsageError(f"the rate {error}") from error
    except TimeWordsError as error:
        raise UsageError(f"--from {error}") from error
    session = session_of(context)
    body = {"currency": currency, "rate": plain(value), "startsOn": first, "reason": reason}
    effect = record(session.client.post(_PATH, body).body)
    show([{**effect, "rate": Number(str(effect["rate"]))}], _EFFECT, session.output)
    if effect["startsOn"] is None:
        note("nothing to change")
