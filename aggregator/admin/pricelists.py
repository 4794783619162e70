"""`nodemeter ratios export|import`: all prices at once, as a file."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import typer

from aggregator.admin import pricelist
from aggregator.admin.client import Client, Json, Record, records
from aggregator.admin.errors import AdminError, UsageError
from aggregator.admin.files import text_of, write_text
from aggregator.admin.output import Format, note
from aggregator.admin.pricelist import Price
from aggregator.admin.pricelist_entry import Kind
from aggregator.admin.ratio_rows import BASE, scheduled_prices, show_changes
from aggregator.admin.session import Reason, Yes, confirmed, examples, session_of
from aggregator.admin.times import minute, wire_text
from aggregator.rating.money import plain
from aggregator.rating.ratio import parse, why_nothing

app = typer.Typer()

_RANGED_FAULT = re.compile(
    r"scheduled\[(?P<place>[0-9]+)\]\.(?P<bound>startsAt|endsAt): (?P<why>.*)"
)
_COLUMNS = {"startsAt": "from", "endsAt": "to"}
_KINDS = {Format.CSV: Kind.CSV, Format.JSON: Kind.JSON}

KindOption = Annotated[
    Kind | None, typer.Option("--format", help="If the file's name does not tell")
]


@app.command(
    "export",
    epilog=examples(
        "nodemeter ratios export prices.csv",
        "nodemeter ratios export prices.yaml",
        "nodemeter ratios export --output json | jq .",
    ),
)
def export_ratios(
    context: typer.Context,
    *,
    file: Annotated[
        str,
        typer.Argument(
            help="Where to; - is standard output. NAME.json and NAME.yaml are written as that"
        ),
    ] = "-",
    kind: KindOption = None,
) -> None:
    """Write the list of all prices, scheduled ones too, as `import` takes it.

    As CSV, YAML or JSON.
    """
    session = session_of(context)
    prices = [_price(each) for each in scheduled_prices(session.client)]
    text = pricelist.write(prices, kind or _KINDS.get(session.output) or pricelist.kind_of(file))
    write_text(file, text)
    if file != "-":
        note(f"{len(prices)} prices written to {file}")


@app.command(
    "import",
    epilog=examples(
        "nodemeter ratios import prices.csv --dry-run",
        'nodemeter ratios import prices.yaml --reason "price list 2027"',
        "nodemeter ratios import prices.json --replace --yes",
    ),
)
def import_ratios(
    context: typer.Context,
    *,
    file: Annotated[str, typer.Argument(help="A list; - is standard input")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the difference and change nothing")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also delete every key that is not in the list")
    ] = False,
    retroactive: Annotated[
        bool, typer.Option("--retroactive", help="Ranges may begin in the past, on whole hours")
    ] = False,
    kind: KindOption = None,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Set all prices of a list, or none.

    The difference is shown first; on a terminal you are asked before it is applied. If
    somebody changes a price in between, nothing is applied.

    CSV: the header key,value and, where wanted, per (core-hour, GiB-hour, device-hour), from
    and to (2026-12-01T00:00:00Z). YAML, JSON: an object like {cpu: 0.00003, gpu: 3.1}, where
    a value may be {value: 0.03, per: core-hour, from: ...}, or a list of those.
    """
    session = session_of(context)
    prices = pricelist.read(text_of(file), kind or pricelist.kind_of(file), file)
    form = _Form(prices=prices, replaces_all=replace, is_retroactive=retroactive, reason=reason)
    trial, state = _import(session.client, form, is_dry_run=True)
    _warn_of_keys(prices)
    changing = [change for change in trial if change["action"] != "keep"]
    if dry_run or not changing:
        show_changes(trial, session.output)
        note("nothing was changed" if dry_run else "nothing to change")
        return
    if not prices:
        raise UsageError(f"{file} holds no prices: --replace would delete all {len(changing)}")
    if not yes and sys.stdin.isatty():
        show_changes(changing, Format.TABLE)
        if not confirmed(f"Apply {len(changing)} changes?", is_agreed=False):
            raise AdminError("nothing was changed")
    done, _ = _import(session.client, form, is_dry_run=False, state=state)
    show_changes(done, session.output)


def _warn_of_keys(prices: Sequence[Price]) -> None:
    """Keys that price nothing are stored, too; most are typing errors."""
    for price in prices:
        if parse(price.key) is None:
            place = f"{price.entry.where}: " if price.entry else ""
            note(f"warning: {place}no usage matches {price.key!r}: {why_nothing(price.key)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """What is to be imported."""

    prices: Sequence[Price]
    replaces_all: bool
    is_retroactive: bool
    reason: str | None


def _import(
    client: Client, form: _Form, *, is_dry_run: bool, state: str | None = None
) -> tuple[list[Record], str | None]:
    """The differences, and the state of the prices that they start from."""
    ranged = [each for each in form.prices if each.is_ranged]
    body = {
        "ratios": {each.key: plain(each.value) for each in form.prices if not each.is_ranged},
        "scheduled": [_ranged(each) for each in ranged],
        "replacesAll": form.replaces_all,
        "isRetroactive": form.is_retroactive,
        "isDryRun": is_dry_run,
        "ifMatch": state,
        "reason": form.reason,
    }
    try:
        answer = client.post(f"{BASE}/import", body)
    except UsageError as error:
        raise _placed(error, ranged) from error
    return records(answer.body), answer.headers.get("ETag")


def _placed(error: UsageError, ranged: Sequence[Price]) -> UsageError:
    """A refusal of one of the ranges, with the line and column that it was read from."""
    found = _RANGED_FAULT.fullmatch(str(error))
    place = int(found["place"]) if found else len(ranged)
    entry = ranged[place].entry if place < len(ranged) else None
    return entry.fault(_COLUMNS[found["bound"]], found["why"]) if found and entry else error


def _ranged(price: Price) -> Record:
    return {
        "key": price.key,
        "value": plain(price.value),
        "startsAt": wire_text(price.start) if price.start else None,
        "endsAt": wire_text(price.end) if price.end else None,
    }


def _price(listed: Record) -> Price:
    return Price(
        key=str(listed["key"]),
        value=Decimal(str(listed["value"])),
        start=_instant(listed["startsAt"]),
        end=_instant(listed["endsAt"]),
    )


def _instant(text: Json) -> datetime | None:
    return minute(text) if isinstance(text, str) else None
