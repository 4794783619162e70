"""`nodemeter tokens create|list|revoke`: who may ask, and what they may see."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from aggregator.admin.client import record
from aggregator.admin.errors import AdminError
from aggregator.admin.items import user_id
from aggregator.admin.output import Column, Format, note, print_line, printable, show
from aggregator.admin.session import Reason, Yes, confirmed, examples, session_of
from aggregator.clock import utc_now

app = typer.Typer(help="Tokens: who may ask, and what they may see.", no_args_is_help=True)

_BASE = "/api/admin/v1/tokens"
_COLUMNS = (
    Column(title="NAME", field="name"),
    Column(title="ROLE", field="role"),
    Column(title="USER", field="userId"),
    Column(title="VC", field="vcName"),
    Column(title="PROJECT", field="project"),
    Column(title="STATE", field="state"),
    Column(title="EXPIRES", field="expiresAt"),
    Column(title="LAST USED", field="lastUsedAt"),
    Column(title="MADE BY", field="createdBy"),
)


class Role(StrEnum):
    """What a token may do."""

    ADMIN = "admin"
    VIEWER = "viewer"


Name = Annotated[str, typer.Argument(help="Who acts, in every history")]


@app.command(
    "create",
    epilog=examples(
        "nodemeter tokens create grafana",
        "nodemeter tokens create alice --user alice --days 365",
        "nodemeter tokens create ops --role admin --reason 'on call'",
    ),
)
def create(
    context: typer.Context,
    *,
    name: Name,
    role: Annotated[Role, typer.Option(help="A viewer changes nothing")] = Role.VIEWER,
    user: Annotated[str | None, typer.Option(help="Sees this user's usage alone")] = None,
    vc: Annotated[str | None, typer.Option(help="Sees this virtual cluster's alone")] = None,
    project: Annotated[str | None, typer.Option(help="Sees this project's alone")] = None,
    days: Annotated[int, typer.Option(min=1, max=3660, help="How long it is valid")] = 90,
    reason: Reason = None,
) -> None:
    """Make a token and print it, this once.

    Give it to whoever shall ask, as --token, as NODEMETER_TOKEN, or in the header
    `Authorization: Bearer ...`.
    """
    session = session_of(context)
    body = {
        "name": name,
        "role": role.value,
        "userId": None if user is None else user_id(session.client, user),
        "vcName": vc,
        "project": project,
        "expiresAt": _text(utc_now() + timedelta(days=days)),
        "reason": reason,
    }
    made = record(session.client.post(_BASE, body).body)
    if session.output is Format.TABLE:
        print_line(str(made["token"]))
        note(f"valid until {made['expiresAt']}; it is not shown again")
    else:
        show([made], _COLUMNS, session.output)


@app.command("list", epilog=examples("nodemeter tokens list"))
def list_tokens(context: typer.Context) -> None:
    """Show every token there ever was, without its secret.

    Those that can be used come first.
    """
    session = session_of(context)
    rows = session.client.get_list(_BASE)
    show(rows, _COLUMNS, session.output)
    if not rows:
        note("there was never a token: `nodemeter tokens create NAME` makes one")


@app.command("revoke", epilog=examples("nodemeter tokens revoke alice --reason 'left'"))
def revoke(context: typer.Context, *, name: Name, reason: Reason = None, yes: Yes = False) -> None:
    """End a token: within a second it is refused everywhere."""
    session = session_of(context)
    if not confirmed(f"Revoke the token {printable(name)}?", is_agreed=yes):
        raise AdminError("nothing was revoked")
    gone = record(session.client.delete(_BASE, name=name, reason=reason).body)
    show([gone], _COLUMNS, session.output)


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
