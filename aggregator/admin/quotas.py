"""`nodemeter quotas list|set|delete|history|reserved`: what is reserved for projects."""

from typing import Annotated

import typer

from aggregator.admin.choice import one_of
from aggregator.admin.client import Record, record
from aggregator.admin.errors import AdminError, UsageError
from aggregator.admin.output import Column, note, printable, show
from aggregator.admin.quantities import api_units
from aggregator.admin.session import Reason, Yes, confirmed, examples, session_of
from aggregator.admin.times import sent
from aggregator.model import ResourceType

app = typer.Typer(help="Quotas: what is reserved for projects.", no_args_is_help=True)

_PATH = "/api/admin/v1/quotas"
_QUOTA = (
    Column(title="PROJECT", field="project"),
    Column(title="TYPE", field="type"),
    Column(title="QUANTITY", field="quantity", is_number=True),
    Column(title="UNIT", field="unit"),
    Column(title="FROM", field="startsAt"),
    Column(title="TO", field="endsAt"),
)
_HISTORY = (
    *_QUOTA,
    Column(title="SET BY", field="createdBy"),
    Column(title="REASON", field="reason"),
    Column(title="CLOSED BY", field="closedBy"),
)
_EFFECT = (
    Column(title="PROJECT", field="project"),
    Column(title="TYPE", field="type"),
    Column(title="ACTION", field="action"),
    Column(title="OLD", field="old", is_number=True),
    Column(title="NEW", field="new", is_number=True),
    Column(title="UNIT", field="unit"),
    Column(title="FROM", field="effectiveAt"),
)
_RESERVED = (
    Column(title="PROJECT", field="project"),
    Column(title="TYPE", field="type"),
    Column(title="UNIT", field="unit"),
    Column(title="UNIT-HOURS", field="hours", is_number=True),
)

Project = Annotated[str, typer.Argument(help="Name of a project")]
Type = Annotated[str, typer.Argument(metavar="TYPE", help="cpu, mem, gpu, npu or storage")]
SomeProject = Annotated[str | None, typer.Argument(help="One project; all if none is named")]


@app.command("list", epilog=examples("nodemeter quotas list", "nodemeter quotas list vision"))
def list_quotas(context: typer.Context, *, project: SomeProject = None) -> None:
    """Show what is reserved, now and later."""
    session = session_of(context)
    rows = session.client.get_list(_PATH, project=project)
    show(rows, _QUOTA, session.output)
    if not rows:
        note(f"nothing is reserved{_for(project)}")


@app.command(
    "set",
    epilog=examples(
        "nodemeter quotas set vision cpu 64000m",
        "nodemeter quotas set vision mem 512Gi --from 2027-01-01T00:00:00Z",
        'nodemeter quotas set speech gpu 8 --new --reason "starts in June"',
    ),
)
def set_quota(
    context: typer.Context,
    *,
    project: Project,
    type_: Type,
    quantity: Annotated[str, typer.Argument(help="64000m or 64 (cores), 512Gi, 8 (devices)")],
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="A whole minute in the future, with offset"),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="When that of before comes back")
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="No job of the project need have run yet")
    ] = False,
    reason: Reason = None,
) -> None:
    """Reserve a quantity for a project, now or from a coming minute on.

    It is what the method ProjectQuota of the Cost API shows; nobody is billed for it.
    """
    session = session_of(context)
    type_ = one_of(type_, ResourceType, "type")
    body: Record = {
        "project": project,
        "type": type_,
        "quantity": api_units(type_, quantity, "the quantity"),
        "startsAt": sent(start),
        "endsAt": sent(end),
        "isNew": new,
        "reason": reason,
    }
    try:
        effect = record(session.client.post(_PATH, body).body)
    except UsageError as error:
        words = str(error).replace("startsAt:", "--from").replace("endsAt:", "--to")
        hint = " with --new" if words.startswith("project: no job") else ""
        raise UsageError(words + hint) from error
    show([effect], _EFFECT, session.output)


@app.command("delete", epilog=examples("nodemeter quotas delete vision gpu --yes"))
def delete_quota(
    context: typer.Context,
    *,
    project: Project,
    type_: Type,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Reserve nothing of a type any more, from the next minute on."""
    session = session_of(context)
    type_ = one_of(type_, ResourceType, "type")
    question = f"Delete the quota of {printable(project)} for {printable(type_)}?"
    if not confirmed(question, is_agreed=yes):
        raise AdminError("nothing was deleted")
    answer = session.client.delete(_PATH, project=project, type=type_, reason=reason)
    show([record(answer.body)], _EFFECT, session.output)


@app.command("history", epilog=examples("nodemeter quotas history vision"))
def show_history(context: typer.Context, *, project: SomeProject = None) -> None:
    """Show every quota ever set, when and why."""
    session = session_of(context)
    rows = session.client.get_list(f"{_PATH}/history", project=project)
    show(rows, _HISTORY, session.output)
    if not rows:
        note(f"nothing was ever reserved{_for(project)}")


@app.command(
    "reserved",
    epilog=examples(
        "nodemeter quotas reserved --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z"
    ),
)
def show_reserved(
    context: typer.Context,
    *,
    project: SomeProject = None,
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="A whole minute")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="The end, exclusive")],
) -> None:
    """Show quota x hours over a range, whether it was used or not."""
    session = session_of(context)
    parameters = {"from": sent(start), "to": sent(end), "project": project}
    rows = session.client.get_list(f"{_PATH}/reserved", **parameters)
    show(rows, _RESERVED, session.output)
    if not rows:
        note(f"nothing was reserved{_for(project)} in this range")


def _for(project: str | None) -> str:
    return f" for the project {project}" if project else ""
