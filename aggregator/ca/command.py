"""The command `nodemeter-aggregator ca`: what an operator does with the authority.

It works on files, whether an aggregator serves or not; one that serves sees each change
within a second.
"""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Final

from aggregator.ca.authority import Authority, make_authority
from aggregator.ca.layout import CaError, Layout, write_whole
from aggregator.ca.listing import COLUMNS, rows_of
from aggregator.ca.token import tokens
from aggregator.clock import utc_now
from aggregator.settings import Settings

_HOURS: Final = 24
_LONGEST_HOURS: Final = 24 * 365
_ENROLL_PORT: Final = 50_052


def add_ca(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    add_common: Callable[[argparse.ArgumentParser], None],
) -> None:
    """Add `ca` to the commands, each of its actions with the options that all commands have."""
    words = "certify nodes: init, issue, revoke, list, server"
    parser = commands.add_parser("ca", help=words, description=words)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_init(actions.add_parser("init", help="make the authority, once"))
    _add_issue(actions.add_parser("issue", help="let a node enrol: print a one-time token"))
    _add_revoke(actions.add_parser("revoke", help="take back what a node has, at once"))
    _add_list(actions.add_parser("list", help="show what was issued"))
    _add_names(actions.add_parser("server", help="make the aggregator's own certificate anew"))
    for each in (parser, *actions.choices.values()):
        add_common(each)


def run_ca(settings: Settings, options: argparse.Namespace) -> None:
    """Do what was asked; raises `CaError`."""
    actions: Mapping[str, Callable[[Settings, argparse.Namespace], None]] = {
        "init": _init,
        "issue": _issue,
        "revoke": _revoke,
        "list": _list,
        "server": _server,
    }
    actions[options.action](settings, options)


def _add_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--name",
        action="append",
        required=True,
        metavar="NAME",
        help="what nodes call the aggregator: a DNS name or an address; may be repeated",
    )


def _add_init(parser: argparse.ArgumentParser) -> None:
    _add_names(parser)
    parser.add_argument(
        "--domain", default="nodemeter", help="trust domain: spiffe://DOMAIN/node/<id>"
    )


def _add_issue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node", metavar="NODE", help="[node] name of its agent: its hostname")
    parser.add_argument(
        "--hours",
        type=int,
        default=_HOURS,
        metavar="HOURS",
        help=f"the token can be used once, within so many hours: 1 to {_LONGEST_HOURS} "
        f"(default {_HOURS})",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write key and certificate instead of a token"
    )


def _add_revoke(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="NODE|SERIAL")
    parser.add_argument("--reason", default="no reason was given", help="shown to who is refused")


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node", nargs="?", metavar="NODE", help="of this node alone")
    parser.add_argument("--all", action="store_true", help="what was replaced or expired, too")
    parser.add_argument("--output", choices=("table", "json", "csv"), default="table")


def _init(settings: Settings, options: argparse.Namespace) -> None:
    layout = Layout(settings.ca_dir)
    names: list[str] = options.name
    fingerprint = make_authority(layout, options.domain, names, utc_now)
    _say(
        f"made the authority of {options.domain} in {layout.folder}; its fingerprint is",
        f"  {fingerprint}",
        "Its key stays on this host: back it up, and show it to nobody. Now set in aggregator.toml",
        "  [grpc]",
        '  host = "0.0.0.0"',
        f"  enroll_port = {settings.grpc.enroll_port or _ENROLL_PORT}",
        "  [tls]",
        '  mode = "mutual"',
        "and restart the aggregator. Then let each node in: nodemeter-aggregator ca issue NODE",
    )


def _issue(settings: Settings, options: argparse.Namespace) -> None:
    authority = Authority(Layout(settings.ca_dir), utc_now)
    node: str = options.node
    if options.out is not None:
        _write_out(authority, node, options.out, timedelta(days=settings.tls.node_days))
        return
    if not 1 <= options.hours <= _LONGEST_HOURS:
        raise CaError(f"--hours: must be from 1 to {_LONGEST_HOURS}, not {options.hours}")
    token = authority.invite(node, timedelta(hours=options.hours))
    port = settings.grpc.enroll_port or _ENROLL_PORT
    place = _join(authority.server_names()[0], port)
    _say(
        f"On {node}, as root, within {options.hours} h, once:",
        f"  nodemeter-agent enroll --aggregator {place} --token {token}",
    )
    if settings.tls.mode == "off" or not settings.grpc.enroll_port:
        sys.stderr.write(
            'nodemeter-aggregator: nobody answers there until [tls] mode = "mutual" and [grpc] '
            f"enroll_port = {port} are set and the aggregator is restarted\n"
        )


def _write_out(authority: Authority, node: str, folder: Path, life: timedelta) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "node.pem", authority.issue(node, life))
        write_whole(folder / "ca.pem", authority.roots, mode=0o644)
    except OSError as error:
        raise CaError(f"{folder} cannot be written to: {error.strerror}") from error
    _say(
        f"{folder} holds node.pem (key and certificate of {node}) and ca.pem: put them into tls/",
        "below the agent's state directory, readable by the agent alone, and delete them here.",
    )


def _revoke(settings: Settings, options: argparse.Namespace) -> None:
    authority = Authority(Layout(settings.ca_dir), utc_now)
    taken = authority.revoke(options.what, options.reason)
    for each in taken:
        _say(f"revoked {each.serial} of {each.node or 'the aggregator'}")
    if not taken:
        _say(f"nothing of {options.what} holds any more: nothing was to be revoked")


def _list(settings: Settings, options: argparse.Namespace) -> None:
    authority = Authority(Layout(settings.ca_dir), utc_now)
    rows = rows_of(authority.issued(), authority.denied(), utc_now(), with_all=options.all)
    rows = [row for row in rows if options.node in {None, row["node"]}]
    invited = [each for each in tokens(authority.layout.tokens) if not each.used_by]
    invited = [each for each in invited if each.ends_at() > utc_now()]
    if options.output == "json":
        document = {
            "domain": authority.domain,
            "fingerprint": authority.fingerprint,
            "certificates": rows,
            "tokens": [asdict(each) for each in invited],
        }
        _say(json.dumps(document, indent=2))
    elif options.output == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(COLUMNS)
        writer.writerows([row[column] for column in COLUMNS] for row in rows)
    else:
        _say_table(rows)
        for each in invited:
            _say(f"{each.node} may enrol until {each.expires_at}")


def _server(settings: Settings, options: argparse.Namespace) -> None:
    authority = Authority(Layout(settings.ca_dir), utc_now)
    authority.certify_server(options.name)
    _say(f"the aggregator is now {', '.join(options.name)}; it need not be restarted")


def _say_table(rows: Sequence[Mapping[str, str]]) -> None:
    lines = [{column: column.upper().replace("_", " ") for column in COLUMNS}, *rows]
    widths = [max(len(line[column]) for line in lines) for column in COLUMNS]
    for line in lines:
        cells = [line[column].ljust(width) for column, width in zip(COLUMNS, widths, strict=True)]
        _say("  ".join(cells).rstrip())


def _say(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
