"""The `nodemeter` command: options, exit status, and errors as sentences.

Exit status: 0 done, 1 failed, 2 wrong call.
"""

import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from aggregator.admin import (
    conservation,
    currencies,
    items,
    methods,
    periods,
    quotas,
    quote,
    ratios,
    reconcile,
    rerate,
    tokens,
)
from aggregator.admin.address import config_files, default_url
from aggregator.admin.client import Client
from aggregator.admin.errors import AdminError
from aggregator.admin.output import Format, note, print_line
from aggregator.admin.session import Session, examples, waiting
from aggregator.admin.wording import in_words

_ANYWHERE = ("--url", "--token", "--ca-file", "--output")

app = typer.Typer(
    name="nodemeter",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(ratios.app, name="ratios")
app.add_typer(items.app)
app.add_typer(conservation.app)
app.add_typer(methods.app, name="methods")
app.add_typer(quotas.app, name="quotas")
app.add_typer(currencies.app, name="currencies")
app.add_typer(quote.app)
app.add_typer(reconcile.app)
app.add_typer(periods.app, name="periods")
app.add_typer(periods.adjustments_app)
app.add_typer(rerate.app)
app.add_typer(tokens.app, name="tokens")


def _show_version(asked: bool) -> None:  # noqa: FBT001 - typer's callback
    if asked:
        print_line(f"nodemeter {version('nodemeter')}")
        raise typer.Exit


@app.callback(
    epilog=examples(
        "nodemeter ratios set gpu 2.5",
        "nodemeter bills --user alice",
        "nodemeter --url http://billing:8080 nodes",
    )
)
def root(
    context: typer.Context,
    *,
    url: Annotated[
        str | None,
        typer.Option(
            envvar="NODEMETER_URL",
            help="The aggregator; by default that of this machine's configuration, "
            "else http://127.0.0.1:8080",
        ),
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="NODEMETER_TOKEN", help="Who you are, where it is asked")
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            envvar="NODEMETER_CA_FILE", help="Whose certificates are trusted with https (PEM)"
        ),
    ] = None,
    output: Annotated[Format, typer.Option(help="How to print")] = Format.TABLE,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version"),
    ] = False,
) -> None:
    """Prices, bills and usage of GPU, NPU, CPU and memory, for administrators."""
    address = url or default_url(config_files(os.environ))
    client = Client(url=address, token=token, ca_file=ca_file, wait=waiting)
    context.obj = Session(client=client, output=output)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its status."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `nodemeter bills | head` is no error
    given = sys.argv[1:] if arguments is None else arguments
    try:
        app(args=forwarded(given), prog_name="nodemeter")
    except AdminError as error:
        note(f"nodemeter: {in_words(str(error))}")
        sys.exit(error.exit_status)


def forwarded(arguments: Sequence[str]) -> list[str]:
    """The arguments with the options that may stand anywhere brought to the front."""
    front: list[str] = []
    rest = list(arguments)
    index = 0
    while index < len(rest) and rest[index] != "--":
        name, equals, _ = rest[index].partition("=")
        if name in _ANYWHERE:
            count = 1 if equals else 2
            front += rest[index : index + count]
            del rest[index : index + count]
        else:
            index += 1
    return front + rest


if __name__ == "__main__":
    main()
