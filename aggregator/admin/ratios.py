"""`nodemeter ratios list|set|delete|history|check`: the prices, one by one."""

from typing import Annotated

import typer

from aggregator.admin import pricelists
from aggregator.admin.client import record, records
from aggregator.admin.errors import AdminError, UsageError
from aggregator.admin.output import Format, note, print_line, printable, show
from aggregator.admin.prices import PriceWordsError, check_per, to_value
from aggregator.admin.ratio_rows import (
    BASE,
    FINDINGS,
    HISTORY,
    idle_row,
    said_row,
    shadow_row,
    show_changes,
    show_prices,
    unpriced_row,
)
from aggregator.admin.session import Reason, Yes, confirmed, examples, session_of
from aggregator.admin.times import sent
from aggregator.rating.money import plain
from aggregator.rating.price import PER
from aggregator.rating.ratio import parse, why_nothing, why_unstorable

app = typer.Typer(help="Prices: what a unit of usage costs per hour.", no_args_is_help=True)
app.add_typer(pricelists.app)

Key = Annotated[
    str,
    typer.Argument(help="gpu, 'gpu:NVIDIA H200', gpu@vc1 or 'gpu:NVIDIA H200@vc1'"),
]
PerUnit = Annotated[
    str | None,
    typer.Option("--per", metavar="|".join(PER), help="The unit-hour that the price is for"),
]


@app.command(
    "list",
    epilog=examples(
        "nodemeter ratios list",
        "nodemeter ratios list --per core-hour",
        "nodemeter ratios list --scheduled",
        "nodemeter ratios list --output json",
    ),
)
def list_ratios(
    context: typer.Context,
    *,
    per: PerUnit = None,
    scheduled: Annotated[
        bool, typer.Option("--scheduled", help="Also those that begin later")
    ] = False,
) -> None:
    """Show the prices in force, and those that begin with the next minute."""
    check_per(per)
    session = session_of(context)
    asked = "true" if scheduled else None
    rows = [said_row(each, per) for each in session.client.get_list(BASE, scheduled=asked)]
    show_prices(rows, session.output)
    if not rows:
        note("no price is in force: `nodemeter ratios set gpu 2.5` sets one")


@app.command(
    "set",
    epilog=examples(
        "nodemeter ratios set gpu 2.5",
        "nodemeter ratios set cpu 0.03 --per core-hour",
        'nodemeter ratios set mem 0.004 --per GiB-hour --reason "contract 17"',
        "nodemeter ratios set 'gpu:NVIDIA H200@vc1' 3.1 --from 2027-01-01T00:00:00Z",
        "nodemeter ratios set gpu 1 --from 2026-12-24T00:00:00Z --to 2026-12-27T00:00:00Z",
        "nodemeter ratios set npu 1.5 --from 2026-11-01T00:00:00Z --retroactive",
    ),
    context_settings={"ignore_unknown_options": True},
)
def set_ratio(
    context: typer.Context,
    *,
    key: Key,
    value: Annotated[str, typer.Argument(help="Price per unit-hour; 0 is free")],
    per: PerUnit = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="A whole minute in the future, with offset"),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="When the price of before comes back"),
    ] = None,
    retroactive: Annotated[
        bool, typer.Option("--retroactive", help="--from may be a whole hour in the past")
    ] = False,
    reason: Reason = None,
) -> None:
    """Set a price, now or for a coming minute.

    Without --per the value is per m-hour (cpu), Mi-hour (mem, storage) or device-hour. A new
    key holds from the beginning of the current minute, a new value from the next one.

    A price that begins in the past (--retroactive) does not change what was billed: usage that
    had no price, or another, is rated again by `nodemeter rerate`.
    """
    if reason_against := why_unstorable(key):
        raise UsageError(f"the key {reason_against}")
    try:
        price = to_value(key, value, per)
    except PriceWordsError as error:
        said_in = "--per" if error.column == "per" else "the value"
        raise UsageError(f"{said_in} {error}") from error
    session = session_of(context)
    body = {
        "key": key,
        "value": plain(price),
        "reason": reason,
        "startsAt": sent(start),
        "endsAt": sent(end),
        "isRetroactive": retroactive,
    }
    try:
        change = record(session.client.post(BASE, body).body)
    except UsageError as error:
        words = str(error).replace("startsAt:", "--from").replace("endsAt:", "--to")
        raise UsageError(words) from error
    show_changes([change], session.output)
    if parse(key) is None:
        note(f"warning: no usage matches {key!r}: {why_nothing(key)}")


@app.command(
    "delete",
    epilog=examples(
        "nodemeter ratios delete gpu@vc1",
        'nodemeter ratios delete tokens --reason "never used" --yes',
    ),
)
def delete_ratio(
    context: typer.Context, *, key: Key, reason: Reason = None, yes: Yes = False
) -> None:
    """Delete a price; past fees are kept.

    From the next minute on its usage is unpriced.
    """
    session = session_of(context)
    if not confirmed(f"Delete the price of {printable(key)}?", is_agreed=yes):
        raise AdminError("nothing was deleted")
    change = record(session.client.delete(BASE, key=key, reason=reason).body)
    show_changes([change], session.output)


@app.command(
    "history",
    epilog=examples(
        "nodemeter ratios history",
        "nodemeter ratios history 'gpu:NVIDIA H200'",
    ),
)
def show_history(
    context: typer.Context,
    *,
    key: Annotated[str | None, typer.Argument(help="One key; all if none is named")] = None,
    per: PerUnit = None,
) -> None:
    """Show every price ever set, when and why.

    The newest is first.

    A price whose FROM and TO are equal was replaced before it took effect.
    """
    check_per(per)
    session = session_of(context)
    versions = session.client.get_list(f"{BASE}/history", key=key)
    show([said_row(each, per) for each in versions], HISTORY, session.output)
    if not versions:
        note(f"no price was ever set{f' for {key}' if key else ''}")


@app.command(
    "check",
    epilog=examples(
        "nodemeter ratios check",
        'nodemeter ratios check --exit-code || echo "look at the prices"',
    ),
)
def check_ratios(
    context: typer.Context,
    *,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 if there is any finding")
    ] = False,
) -> None:
    """Find idle keys and usage without a price.

    Also prices of a virtual cluster that hide the price of a device model.
    """
    session = session_of(context)
    found = record(session.client.get(f"{BASE}/check").body)
    rows = [
        *(idle_row(each) for each in records(found["matchingNothing"])),
        *(shadow_row(each) for each in records(found["shadowed"])),
        *(unpriced_row(each) for each in records(found["unpriced"])),
    ]
    if rows or session.output is not Format.TABLE:
        show(rows, FINDINGS, session.output)
    else:
        print_line("Every key prices usage, and all usage has a price.")
    if rows and exit_code:
        raise typer.Exit(1)
