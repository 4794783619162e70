"""`nodemeter-aggregator token create`: the first token, made on the aggregator's own host.

Who may read the configuration and the database's password is an administrator already, so
no token is asked for. Every other one is made over HTTP, by `nodemeter tokens`.
"""

import argparse
import asyncio
import os
import pwd
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final
from uuid import UUID

from aggregator.billing.audit import Author
from aggregator.billing.database import Database
from aggregator.billing.scope import Scope
from aggregator.billing.tokens import (
    LIFETIME,
    MAX_LIFETIME,
    Issued,
    NameTakenError,
    NewToken,
    TokenRuleError,
    create_token,
    described,
    wanted_token,
)
from aggregator.clock import utc_now
from aggregator.errors import NodemeterError
from aggregator.settings import Settings
from aggregator.store.embedded import SERVICE_LOGIN, ensure_server, running_url
from aggregator.store.grants import Role
from aggregator.store.migrate import migrate, prepare
from aggregator.store.pool import open_pool
from aggregator.values import EMBEDDED

WORDS: Final = "make a token in the database, for who may not ask over HTTP yet"
_OPTIONS: Final = {"userId": "--user", "vcName": "--vc", "expiresAt": "--days"}


def add_create(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add what the command can do; give the parser of that."""
    verbs = command.add_subparsers(dest="verb", metavar="create", required=True)
    parser = verbs.add_parser("create", help="print a new token, this once")
    parser.add_argument("--name", required=True, help="who acts, in every history")
    parser.add_argument("--role", choices=("admin", "viewer"), default="admin")
    parser.add_argument("--user", type=UUID, metavar="UUID", help="a viewer of this user alone")
    parser.add_argument("--vc", help="a viewer of this virtual cluster alone")
    parser.add_argument("--project", help="a viewer of this project alone")
    parser.add_argument(
        "--days",
        type=int,
        default=LIFETIME.days,
        choices=range(1, MAX_LIFETIME.days + 1),
        metavar="DAYS",
        help="how long it is valid (default %(default)s)",
    )
    parser.add_argument("--reason", help="kept in the audit")
    return parser


def create(settings: Settings, options: argparse.Namespace) -> None:
    """Make the token and print it. Raises NodemeterError."""
    with _database_url(settings) as url:
        issued = asyncio.run(_create(url, _wanted(options), _author(options.reason)))
    token = issued.token
    sys.stdout.write(f"{issued.secret}\n")
    sys.stderr.write(
        f"made the token {token.name} ({described(token)}), valid until "
        f"{token.expires_at:%Y-%m-%d %H:%M} UTC. It is not shown again.\n"
    )


def _wanted(options: argparse.Namespace) -> NewToken:
    scope = Scope(user_id=options.user, vc=options.vc, project=options.project)
    now = utc_now()
    try:
        return wanted_token(
            options.name, options.role, scope, now + timedelta(days=options.days), now
        )
    except TokenRuleError as error:
        field = _OPTIONS.get(error.field, f"--{error.field}")
        raise NodemeterError(f"{field}: {error}") from error


def _author(reason: str | None) -> Author:
    return Author(actor=f"{_account()} on the aggregator's host", reason=reason)


def _account() -> str:
    """Who calls: through sudo, whoever called that."""
    uid = os.getuid()
    if uid == 0 and (asked := os.environ.get("SUDO_USER")):
        return asked
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@contextmanager
def _database_url(settings: Settings) -> Generator[str]:
    """The database: as it runs, else started for as long as this takes."""
    if settings.database.url != EMBEDDED:
        prepare(settings.database.url, settings.database.owner_url)
        yield settings.database.url
    elif url := running_url(settings.database.state_dir):
        yield url
    else:
        with ensure_server(settings.database.state_dir) as server:
            migrate(server.url, login=SERVICE_LOGIN)
            yield server.url


async def _create(url: str, wanted: NewToken, author: Author) -> Issued:
    pool = await open_pool(url, role=Role.API, max_size=1)
    try:
        return await create_token(Database(pool), wanted, author)
    except NameTakenError as error:
        raise NodemeterError(
            f"there is a token called {wanted.name}: choose another --name, or revoke it with "
            "`nodemeter tokens revoke`"
        ) from error
    finally:
        await pool.close()
