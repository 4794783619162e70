"""The command `nodemeter-aggregator`: reads the command line and the configuration, and runs."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Final

from aggregator import handshakes, log, token_command
from aggregator.ca.command import add_ca, run_ca
from aggregator.errors import NodemeterError
from aggregator.notify import Notifier
from aggregator.settings import Settings, find_config, load_settings
from aggregator.store.embedded import SERVICE_LOGIN, Server, ensure_server
from aggregator.store.migrate import migrate, prepare
from aggregator.store.patience import patiently
from aggregator.values import EMBEDDED

_EXAMPLES: Final = """\
examples:
  nodemeter-aggregator serve
  nodemeter-aggregator serve --config ./aggregator.toml
  NODEMETER_HTTP_PORT=9090 nodemeter-aggregator serve
  NODEMETER_DATABASE_OWNER_URL=postgresql://owner@db/nodemeter nodemeter-aggregator migrate
  nodemeter-aggregator check-config
  nodemeter-aggregator ca init --name meter.example.org
  nodemeter-aggregator ca issue gpu-7
  nodemeter-aggregator token create --name root --role admin

The configuration is --config, else $NODEMETER_AGGREGATOR_CONFIG, else that of `make run`
($NODEMETER_STATE_DIR/aggregator.toml, or etc/nodemeter/aggregator.toml of the virtual
environment), else /etc/nodemeter/aggregator.toml, else the defaults. Every key can also
be set in the environment, as NODEMETER_<SECTION>_<KEY>.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 done, 1 failed with a message, 2 wrong call."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None and not options.check_config:
        parser.print_help(sys.stderr)
        return 2
    try:
        settings = load_settings(options.config, os.environ)
        if options.check_config or options.command == "check-config":
            source = options.config or find_config(os.environ) or "no file; the defaults"
            print(f"the configuration is valid ({source})")
        elif options.command == "ca":
            run_ca(settings, options)
        elif options.command == "token":
            token_command.create(settings, options)
        else:
            log.configure(settings.log.level)
            _run(settings, str(options.command))
    except (NodemeterError, OSError) as error:
        print(f"nodemeter-aggregator: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(settings: Settings, command: str) -> None:
    """Serve or migrate, with the database that the configuration names."""
    if settings.database.url != EMBEDDED:
        database = settings.database
        patiently(lambda: prepare(database.url, database.owner_url))
        if command == "serve":
            _serve(settings, database.url, lambda: None)
        return
    with ensure_server(settings.database.state_dir) as server:
        patiently(lambda: migrate(server.url, login=SERVICE_LOGIN))
        if command == "serve":
            _serve(settings, server.service_url, lambda: _ending(server))


def _serve(settings: Settings, url: str, database_ending: Callable[[], str | None]) -> None:
    """Serve; with TLS, log whose connections are refused."""
    has_tls = settings.tls.mode != "off"
    if has_tls:
        handshakes.trace(os.environ)
    from aggregator.serve import serve  # noqa: PLC0415  gRPC comes with it, and looks once

    with handshakes.logged() if has_tls else nullcontext():
        log.configure(settings.log.level)
        notifier = Notifier(os.environ)
        asyncio.run(serve(settings, url, notifier, database_ending=database_ending))


def _ending(server: Server) -> str | None:
    """How our own database has ended, and where its log is; None = it runs, where it was begun."""
    server.check_place()
    return None if server.is_running() else server.explain()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nodemeter-aggregator",
        description="Takes usage from agents, stores and rates it, and serves the billing APIs.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('nodemeter')}")
    _add_common(parser, default=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, words in (
        ("serve", "run until SIGTERM"),
        ("migrate", "bring the database to this version's schema, and end"),
        ("check-config", "say whether the configuration is valid, and end"),
    ):
        _add_common(commands.add_parser(name, help=words, description=words), default=None)
    add_ca(commands, lambda each: _add_common(each, default=None))
    token = commands.add_parser("token", help=token_command.WORDS, description=token_command.WORDS)
    _add_common(token_command.add_create(token), default=None)
    return parser


def _add_common(parser: argparse.ArgumentParser, *, default: bool | None) -> None:
    """The options that may stand before or after the command."""
    missing = argparse.SUPPRESS if default is None else None
    parser.add_argument("--config", type=Path, metavar="PATH", default=missing, help="TOML file")
    parser.add_argument(
        "--check-config",
        action="store_true",
        default=argparse.SUPPRESS if default is None else default,
        help="say whether the configuration is valid, and end",
    )


if __name__ == "__main__":
    sys.exit(main())
