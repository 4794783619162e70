"""`nodemeter conservation`: what became of all that a node has, hour by hour."""

from typing import Annotated

import typer

from aggregator.admin.errors import UsageError
from aggregator.admin.output import Column, note, show
from aggregator.admin.session import examples, session_of

app = typer.Typer()

_HOURS = (
    Column(title="HOUR", field="hour"),
    Column(title="TYPE", field="type"),
    Column(title="DEVICE", field="device"),
    Column(title="UNIT", field="unit"),
    Column(title="CAPACITY", field="capacity", is_number=True),
    Column(title="JOBS", field="jobs", is_number=True),
    Column(title="IDLE", field="idle", is_number=True),
    Column(title="UNATTRIBUTED", field="unattributed", is_number=True),
    Column(title="DOWN", field="down", is_number=True),
    Column(title="EXCESS", field="excess", is_number=True),
    Column(title="DIFFERENCE", field="difference", is_number=True),
)


@app.command(
    "conservation",
    epilog=examples(
        "nodemeter conservation gpu-node-7",
        "nodemeter conservation gpu-node-7 --from 2026-02-06T00:00:00Z --to 2026-02-07T00:00:00Z",
        "nodemeter conservation gpu-node-7 --output csv > hours.csv",
    ),
)
def conservation(
    context: typer.Context,
    *,
    node: Annotated[str, typer.Argument(help="Name of a node; `nodemeter nodes` lists all")],
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="A whole minute, with offset"),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="Its hour is shown unless it starts there"),
    ] = None,
) -> None:
    """Show what became of all that a node has, hour by hour.

    In unit-hours, for the whole node and for each of its devices. Jobs, idle, unattributed
    (used by what is no job) and down (not there to be used), less excess (given to jobs beyond
    what there is), make the capacity; the difference is what is not accounted for: 0 for
    devices, and next to nothing for cpu and memory.

    Without --from and --to it is the last day of hours that are settled: nodes account for
    their time some minutes late.
    """
    session = session_of(context)
    parameters = {"node": node, "from": start, "to": end}
    try:
        rows = session.client.get_list("/api/admin/v1/nodes/conservation", **parameters)
    except UsageError as error:
        words = str(error)
        for name in ("from", "to"):
            words = words.replace(f"{name}:", f"--{name}", 1)
        raise UsageError(words) from error
    show(rows, _HOURS, session.output)
    if not rows:
        note("nothing was accounted for in these hours")
