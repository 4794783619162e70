"""`nodemeter methods list|set|history`: what of each type's usage is billed."""

from typing import Annotated

import typer

from aggregator.admin.choice import one_of
from aggregator.admin.client import record
from aggregator.admin.errors import UsageError
from aggregator.admin.output import Column, Format, show
from aggregator.admin.session import Reason, examples, session_of
from aggregator.admin.times import sent
from aggregator.model import Method, ResourceType

app = typer.Typer(
    help="Methods: what of a usage is billed - effective, request or usage.", no_args_is_help=True
)

_PATH = "/api/admin/v1/methods"
_METHODS = (
    Column(title="TYPE", field="type"),
    Column(title="METHOD", field="method"),
    Column(title="IN FORCE", field="inForce"),
)
_EFFECT = (
    Column(title="TYPE", field="type"),
    Column(title="OLD", field="old"),
    Column(title="NEW", field="new"),
    Column(title="FROM", field="effectiveAt"),
)
_HISTORY = (
    Column(title="TYPE", field="type"),
    Column(title="METHOD", field="method"),
    Column(title="FROM", field="startsAt"),
    Column(title="TO", field="endsAt"),
    Column(title="SET BY", field="createdBy"),
    Column(title="REASON", field="reason"),
)


@app.command("list", epilog=examples("nodemeter methods list"))
def list_methods(context: typer.Context) -> None:
    """Show the method of each type, and those that begin later.

    effective: the larger of what was reserved and what was used, per sampling interval;
    request: what was reserved; usage: what was used.
    """
    session = session_of(context)
    rows = session.client.get_list(_PATH)
    if session.output is Format.TABLE:
        rows = [
            {**row, "inForce": True if row["startsAt"] is None else f"from {row['startsAt']}"}
            for row in rows
        ]
    show(rows, _METHODS, session.output)


@app.command(
    "set",
    epilog=examples(
        "nodemeter methods set cpu request",
        'nodemeter methods set mem usage --from 2027-01-01T00:00:00Z --reason "contract 17"',
    ),
)
def set_method(
    context: typer.Context,
    *,
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="cpu, mem, gpu, npu or storage")],
    method: Annotated[str, typer.Argument(help="effective, request or usage")],
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="A whole minute in the future, with offset"),
    ] = None,
    reason: Reason = None,
) -> None:
    """Bill a type by another method, from the next minute on or later.

    What has been used keeps the method of its time.
    """
    session = session_of(context)
    type_, method = one_of(type_, ResourceType, "type"), one_of(method, Method, "method")
    body = {"type": type_, "method": method, "startsAt": sent(start), "reason": reason}
    try:
        effect = record(session.client.post(_PATH, body).body)
    except UsageError as error:
        raise UsageError(str(error).replace("startsAt:", "--from")) from error
    show([effect], _EFFECT, session.output)


@app.command(
    "history", epilog=examples("nodemeter methods history", "nodemeter methods history cpu")
)
def show_history(
    context: typer.Context,
    *,
    type_: Annotated[
        str | None, typer.Argument(metavar="TYPE", help="One type; all if none is named")
    ] = None,
) -> None:
    """Show every method ever set, when and why."""
    session = session_of(context)
    type_ = type_ and one_of(type_, ResourceType, "type")
    show(session.client.get_list(f"{_PATH}/history", type=type_), _HISTORY, session.output)
