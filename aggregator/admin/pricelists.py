"""`nodemeter ratios export|import`: all prices at once, as a file."""

import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from aggregator.admin import pricelist
from aggregator.admin.client import Client, Record, records
from aggregator.admin.errors import AdminError, UsageError
from aggregator.admin.output import Format, note
from aggregator.admin.ratio_rows import BASE, declared_prices, show_changes
from aggregator.admin.session import Reason, Yes, confirmed, examples, session_of
from aggregator.rating.money import plain

app = typer.Typer()

_KINDS = {Format.CSV: pricelist.Kind.CSV, Format.JSON: pricelist.Kind.JSON}


@app.command(
    "export",
    epilog=examples(
        "nodemeter ratios export prices.csv",
        "nodemeter ratios export --output json | jq .",
    ),
)
def export_ratios(
    context: typer.Context,
    *,
    file: Annotated[
        str, typer.Argument(help="Where to; - is standard output. NAME.json is written as JSON")
    ] = "-",
    kind: Annotated[
        pricelist.Kind | None, typer.Option("--format", help="If the file's name does not tell")
    ] = None,
) -> None:
    """Write a list that `import` takes: as CSV, or with --output json as JSON."""
    session = session_of(context)
    prices = {
        str(each["key"]): Decimal(str(each["value"])) for each in declared_prices(session.client)
    }
    text = pricelist.write(prices, kind or _KINDS.get(session.output) or pricelist.kind_of(file))
    if file == "-":
        sys.stdout.write(text)
        return
    try:
        Path(file).write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise AdminError(f"{file} cannot be written: {error.strerror}") from error
    note(f"{len(prices)} prices written to {file}")


@app.command(
    "import",
    epilog=examples(
        "nodemeter ratios import prices.csv --dry-run",
        'nodemeter ratios import prices.csv --reason "price list 2027"',
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
    kind: Annotated[
        pricelist.Kind | None, typer.Option("--format", help="If the file's name does not tell")
    ] = None,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Set all prices of a list, or none.

    The difference is shown first; on a terminal you are asked before it is applied.

    CSV: the header key,value or key,value,per, where per is core-hour, GiB-hour or
    device-hour. JSON: an object like {"cpu": 0.00003, "gpu:NVIDIA H200": 3.1}.
    """
    session = session_of(context)
    prices = pricelist.read(_text_of(file), kind or pricelist.kind_of(file), file)
    trial = _import(session.client, prices, reason, replaces_all=replace, is_dry_run=True)
    changing = [change for change in trial if change["action"] != "keep"]
    if dry_run or not changing:
        show_changes(trial, session.output)
        note("nothing was changed" if dry_run else "nothing to change")
        return
    if not yes and sys.stdin.isatty():
        show_changes(changing, Format.TABLE)
        if not confirmed(f"Apply {len(changing)} changes?", is_agreed=False):
            raise AdminError("nothing was changed")
    done = _import(session.client, prices, reason, replaces_all=replace, is_dry_run=False)
    show_changes(done, session.output)


def _import(
    client: Client,
    prices: Mapping[str, Decimal],
    reason: str | None,
    *,
    replaces_all: bool,
    is_dry_run: bool,
) -> list[Record]:
    body = {
        "ratios": {key: plain(value) for key, value in prices.items()},
        "replacesAll": replaces_all,
        "isDryRun": is_dry_run,
        "reason": reason,
    }
    return records(client.post(f"{BASE}/import", body).body)


def _text_of(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text") from error
