"""What every command has: an aggregator to ask, and a form to answer in."""

import sys
import time
from dataclasses import dataclass
from typing import Annotated

import typer

from aggregator.admin.client import Client
from aggregator.admin.output import Format, note

Reason = Annotated[str | None, typer.Option(help="Why; kept in the history")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The options that come before every command."""

    client: Client
    output: Format


def session_of(context: typer.Context) -> Session:
    """The session that the root command made."""
    found = context.find_object(Session)
    assert found is not None, "the root command runs before every other"
    return found


def confirmed(question: str, *, is_agreed: bool) -> bool:
    """Whether to go on: asked on a terminal only, so that scripts need not answer."""
    if is_agreed or not sys.stdin.isatty():
        return True
    return typer.confirm(question)


def waiting(seconds: int) -> None:
    """Wait, and say why."""
    note(f"the aggregator takes no more requests for {seconds} s: waiting")
    time.sleep(seconds)


def examples(*lines: str) -> str:
    """The end of a command's help: calls that work, and the options that always do."""
    shown = "\n".join(f"  {line}" for line in lines)
    return (
        f"\b\nExamples:\n{shown}\n\n"
        "--output table|json|csv, --url and --token may stand anywhere on the line."
    )
