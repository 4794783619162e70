"""`nodemeter rerate` and `nodemeter rerates`: rate past hours again, at the prices of now."""

import sys
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from aggregator.admin.client import TIMEOUT_SECONDS, Client, Json, Record, record, records
from aggregator.admin.errors import AdminError, UsageError
from aggregator.admin.output import Column, Format, note, show
from aggregator.admin.session import Yes, confirmed, examples, session_of

app = typer.Typer()

BASE = "/api/admin/v1/rerates"
_PREVIEW_SECONDS = 900.0
_POLL_SECONDS = 0.5

_DIFFERENCES = (
    Column(title="JOB", field="jobId"),
    Column(title="NAME", field="jobName"),
    Column(title="USER", field="username"),
    Column(title="VC", field="vcName"),
    Column(title="CHARGES", field="charges", is_number=True),
    Column(title="BEFORE", field="before", is_number=True),
    Column(title="AFTER", field="after", is_number=True),
    Column(title="DIFFERENCE", field="difference", is_number=True),
)
_ORDERS = (
    Column(title="ID", field="id", is_number=True),
    Column(title="FROM", field="from"),
    Column(title="TO", field="to"),
    Column(title="KEY", field="key"),
    Column(title="REASON", field="reason"),
    Column(title="BY", field="createdBy"),
    Column(title="PERCENT", field="percent", is_number=True),
    Column(title="LOOKED AT", field="checked", is_number=True),
    Column(title="LINES", field="lines", is_number=True),
    Column(title="FINISHED", field="finishedAt"),
)


_UNCHANGED = (
    "nothing would change: the ratios as they stand give what was charged; `nodemeter ratios "
    "check` lists what has no price"
)


@app.command(
    "rerate",
    epilog=examples(
        "nodemeter rerate --from 2026-10-01T00:00Z --to 2026-10-08T00:00Z --dry-run",
        "nodemeter rerate --from 2026-10-01T00:00Z --to 2026-10-08T00:00Z --key gpu "
        '--reason "the price of contract 17 came late"',
    ),
)
def rerate(
    context: typer.Context,
    *,
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="A whole hour, with offset")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="A whole hour that is over")],
    key: Annotated[
        str | None, typer.Option(help="Only the usage that this ratio can price; else everything")
    ] = None,
    reason: Annotated[
        str | None, typer.Option(help="Why; kept for ever. Required, but for --dry-run")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and change nothing")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Stay until all of it is done")
    ] = True,
    yes: Yes = False,
) -> None:
    """Rate the usage of past hours again, by the ratios as they stand now.

    Use it after a price was declared for the past. Charges whose price is another one now are
    taken back and booked again; the originals stay. Of a closed month the lines are booked into
    the open one. What would change is shown first; on a terminal you are asked before it does.

    The aggregator does the work, so it goes on when you leave, and after a restart.
    """
    session = session_of(context)
    if not reason and not dry_run:
        raise UsageError("--reason is required: it is kept for ever beside what changes")
    body = {"from": _hour(start), "to": _hour(end), "key": key}
    trial = records(_asked(session.client, f"{BASE}/preview", body, _PREVIEW_SECONDS))
    if dry_run or not trial:
        show(trial, _DIFFERENCES, session.output)
        note(_summary(trial) if trial else _UNCHANGED)
        return
    if not yes and sys.stdin.isatty():
        show(trial, _DIFFERENCES, Format.TABLE)
        note(_summary(trial))
        if not confirmed(f"Book the charges of {len(trial)} jobs again?", is_agreed=False):
            raise AdminError("nothing was changed")
    order = record(_asked(session.client, BASE, body | {"reason": reason}))
    if wait:
        order = _watch(session.client, order)
    show([order], _ORDERS, session.output)


@app.command("rerates", epilog=examples("nodemeter rerates", "nodemeter rerates --id 7"))
def rerates(
    context: typer.Context,
    *,
    number: Annotated[int | None, typer.Option("--id", min=1, help="One of them")] = None,
) -> None:
    """Show what was ordered to be rated again, and how far it is.

    Of the charges that were looked at, two lines were appended for each that changed.
    """
    session = session_of(context)
    asked = None if number is None else str(number)
    rows = session.client.get_list(BASE, id=asked)
    if not rows and number is not None:
        raise AdminError(f"there is no order {number}; `nodemeter rerates` shows all there are")
    show(rows, _ORDERS, session.output)
    if not rows:
        note("nothing was ever ordered to be rated again")


def _hour(text: str) -> str:
    """The time as the API takes it: seconds may be left out."""
    head, sep, rest = text.partition("T")
    return f"{head}T{rest[:5]}:00{rest[5:]}" if sep and rest[5:6] in {"Z", "+", "-"} else text


def _asked(client: Client, path: str, body: object, timeout: float = TIMEOUT_SECONDS) -> Json:
    try:
        return client.post(path, body, timeout=timeout).body
    except UsageError as error:
        words = str(error)
        for name in ("from", "to", "key", "reason"):
            words = words.replace(f"{name}:", f"--{name}", 1)
        raise UsageError(words) from error


def _summary(trial: list[Record]) -> str:
    charges = sum(int(str(each["charges"])) for each in trial)
    money = sum(float(str(each["difference"])) for each in trial)
    return f"{charges} charges of {len(trial)} jobs would change, by {money:+.10g} together"


def _watch(client: Client, order: Record) -> Record:
    """Show how far the order is until it is through; on a terminal as a bar."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"re-rating {order['id']}", total=100)
        while order["finishedAt"] is None:
            time.sleep(_POLL_SECONDS)
            (order,) = client.get_list(BASE, id=str(order["id"]))
            progress.update(task, completed=int(str(order["percent"])))
    return order
