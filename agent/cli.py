"""The command line of `nodemeter-agent`.

`exec` is only listed here: `agent.__main__` takes it out before this is loaded.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from agent import log
from agent.errors import AgentError
from agent.settings import AgentSettings, load_settings

_EPILOG = """\
examples:
  nodemeter-agent run
  nodemeter-agent check-config --config ./agent.toml
  nodemeter-agent inspect
  nodemeter-agent inspect --save /tmp/this-node
  nodemeter-agent inspect --root /tmp/that-node --json
  nodemeter-agent exec --name burn --cpu 500m --mem 256Mi -- python train.py
  nodemeter-agent enroll --aggregator meter.example.org:50052 --token TOKEN

The configuration is --config, else $NODEMETER_AGENT_CONFIG, else that of `make run`
($NODEMETER_STATE_DIR/agent.toml, or etc/nodemeter/agent.toml of the virtual
environment), else /etc/nodemeter/agent.toml, else the defaults. Every
key can also be set in the environment, as NODEMETER_<SECTION>_<KEY>.
"""

_COMMANDS = {
    "run": "meter this node until SIGTERM",
    "exec": "run a command as a metered job; see: nodemeter-agent exec --help",
    "enroll": "let the aggregator certify this node, with a one-time token",
    "inspect": "show what would be metered now: runs, quotas, devices, providers",
    "check-config": "say whether the configuration is valid, and end",
}


def main(arguments: Sequence[str]) -> int:
    """Run a command; 0 done, 1 failed with a message, 2 wrong call."""
    parser = _parser()
    options = parser.parse_args(arguments)
    command: str | None = options.command
    if command is None and not options.check_config:
        parser.print_help(sys.stderr)
        return 2
    try:
        settings = load_settings(options.config, os.environ)
        if command == "run" and not options.check_config:
            _run(settings)
        elif command == "inspect" and not options.check_config:
            _inspect(settings, options)
        elif command == "enroll" and not options.check_config:
            _enroll(settings, options)
        else:
            _check(settings)
            sys.stdout.write(f"the configuration is valid ({settings.source})\n")
    except AgentError as error:
        sys.stderr.write(f"nodemeter-agent: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(settings: AgentSettings) -> None:
    """Meter this node until a signal asks to end."""
    from agent.wiring import meter_node  # noqa: PLC0415  gRPC is not loaded to check a file

    log.configure(settings.log.level)
    meter_node(settings)


def _inspect(settings: AgentSettings, options: argparse.Namespace) -> None:
    """Look once and show it; nothing is written but what `--save` names."""
    from agent import inspection  # noqa: PLC0415  the providers come with it

    log.configure("error")
    save: str | None = options.save
    if save is not None:
        count = inspection.save_tree(settings, Path(save))
        sys.stdout.write(f"{count} files are in {save}; see it with: --root {save}\n")
        return
    root: str = options.root.rstrip("/") if options.root else ""
    if root and not Path(root, "proc").is_dir():
        raise AgentError(f"{options.root} is no saved tree: it has no folder named proc")
    report = inspection.look_at_node(settings, str(Path(root).resolve()) if root else "")
    render = inspection.as_json if options.json else inspection.as_text
    sys.stdout.write(render(report) + "\n")


def _enroll(settings: AgentSettings, options: argparse.Namespace) -> None:
    """Get a certificate."""
    from agent.enroll.command import run_enroll  # noqa: PLC0415  gRPC and cryptography

    run_enroll(settings, options)


def _check(settings: AgentSettings) -> None:
    """What is wrong with a configuration although each of its values is right."""
    from agent.uplink.target import check_target  # noqa: PLC0415  gRPC comes with it

    check_target(settings.uplink.target, has_tls=settings.uplink.has_tls)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nodemeter-agent",
        description="Meters the jobs of this node and sends what they used to an aggregator.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('nodemeter')}")
    _add_common(parser, is_subcommand=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, words in _COMMANDS.items():
        command = commands.add_parser(name, help=words, description=words, allow_abbrev=False)
        _add_common(command, is_subcommand=True)
        if name == "inspect":
            _add_inspect(command)
        if name == "enroll":
            _add_enroll(command)
    return parser


def _add_inspect(command: argparse.ArgumentParser) -> None:
    """What can be looked at, and how it is shown."""
    command.add_argument("--json", action="store_true", help="show it as JSON")
    place = command.add_mutually_exclusive_group()
    place.add_argument(
        "--root",
        metavar="DIR",
        help="look at a saved tree of another machine: DIR holds its sys, proc, run and dev",
    )
    place.add_argument(
        "--save",
        metavar="DIR",
        help="save a tree of this machine instead: no secrets, nothing but what is read",
    )


def _add_enroll(command: argparse.ArgumentParser) -> None:
    """Who certifies, and with which token."""
    command.add_argument(
        "--token",
        required=True,
        help="what `nodemeter-aggregator ca issue NODE` printed; - reads it from standard input",
    )
    command.add_argument(
        "--aggregator",
        metavar="HOST:PORT",
        help="where it enrols; default: port 50052 at the host of [uplink] target",
    )


def _add_common(parser: argparse.ArgumentParser, *, is_subcommand: bool) -> None:
    """The options that may stand before or after the command."""
    missing = argparse.SUPPRESS if is_subcommand else None
    parser.add_argument("--config", metavar="PATH", default=missing, help="TOML file")
    parser.add_argument(
        "--check-config",
        action="store_true",
        default=argparse.SUPPRESS if is_subcommand else False,
        help="say whether the configuration is valid, and end",
    )
