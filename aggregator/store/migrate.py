"""Brings a database to the schema of this software, or says why it cannot.

Migrations are numbered files, each applied in one transaction together with its row in
`schema_migration`, under one advisory lock. Applying them again does nothing.
The extension timescaledb is created before, since that may need a superuser; btree_gist
is a trusted one and is created by a migration. The services' roles and rights follow from
what `grants` declares, after every migration and whenever they differ.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import psycopg
from psycopg import Connection, errors
from psycopg.rows import TupleRow

from aggregator.errors import (
    DatabaseEncodingError,
    DatabaseTooOldError,
    MigrationFailedError,
    SchemaChangedError,
    SchemaNewerError,
    SchemaOlderError,
    SchemaPrivilegeError,
    TimescaleMissingError,
    TimescaleNotPreloadedError,
    TimescalePrivilegeError,
    TimescaleVersionError,
)
from aggregator.model import MIGRATE_LOCK
from aggregator.store.grants import Role
from aggregator.store.pool import connect, login_of
from aggregator.store.queries import query
from aggregator.store.roles import settle_grants, settle_roles

_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_MINIMUM_SERVER: Final = 150000
_ATTEMPTS: Final = 20  # a deadlock is found after a second
_OLDEST = (2, 13)
_WRONG_FIRST, _WRONG_LAST = (2, 25, 0), (2, 26, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One numbered file."""

    version: int
    name: str
    text: bytes

    @property
    def checksum(self) -> str:
        """SHA-256 of the content, in hexadecimal."""
        return hashlib.sha256(self.text).hexdigest()


def prepare(url: str, owner_url: str) -> None:
    """Make the database ready for services that log in by `url`.

    Where `owner_url` is empty, `url` is the owner's, too, unless its tables are another's: then
    they must be of this version already. Raises a `DatabaseError` that says what to do.
    """
    if owner_url:
        migrate(owner_url, login=login_of(url))
    elif _is_of_another(url):
        check_schema(url)
    else:
        migrate(url)


def migrate(url: str, *, login: str | None = None) -> Sequence[str]:
    """Apply what is missing and name it; nothing if the schema is current.

    `login` is whom the services log in as; None: as we do here. Raises a `DatabaseError`
    that says what the operator can do.
    """
    with connect(url) as connection:
        check_server(connection, url)
        connection.execute(query("lock_migrations"), {"lock": MIGRATE_LOCK})
        _create_schema(connection)
        create_timescale(connection, url)
        settle_roles(connection, url, login)
        _create_books(connection, url)
        missing = _missing(connection, known_migrations())
        applied = [_apply(connection, each) for each in missing]
        settle_grants(connection, url)
        return applied


def check_schema(url: str) -> None:
    """See, as a service, that the schema is this software's. Raises a `DatabaseError`."""
    with connect(url, Role.API) as connection:
        check_server(connection, url)
        missing = _missing(connection, known_migrations())
    if missing:
        raise SchemaOlderError(url, [each.name for each in missing])


def known_migrations() -> Sequence[Migration]:
    """The files of `store/migrations`, in order; ValueError if their numbers have a gap."""
    found = [
        Migration(version=int(match[1]), name=file.name, text=file.read_bytes())
        for file in (files("aggregator.store") / "migrations").iterdir()
        if (match := _FILE.fullmatch(file.name))
    ]
    found.sort(key=lambda each: each.version)
    if [each.version for each in found] != list(range(1, len(found) + 1)):
        raise ValueError("migrations are not numbered from 1 without gaps")
    return found


def check_server(connection: Connection[TupleRow], url: str) -> None:
    """Refuse a server that is too old, encoded in less than UTF8, or without TimescaleDB."""
    if connection.info.server_version < _MINIMUM_SERVER:
        raise DatabaseTooOldError(connection.info.server_version)
    encoding = connection.info.parameter_status("server_encoding") or "?"
    if encoding != "UTF8":
        raise DatabaseEncodingError(encoding)
    row = connection.execute(query("get_timescale_version")).fetchone()
    if row is None or row[0] is None:
        raise TimescaleMissingError(url)
    check_timescale_version(str(row[0]))


def check_timescale_version(version: str) -> None:
    """Refuse what upstream got wrong (2.25.0 to 2.26.1) and what lacks what we use."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if numbers < _OLDEST:
        raise TimescaleVersionError(version, "2.13 or newer is needed")
    if _WRONG_FIRST <= numbers <= _WRONG_LAST:
        raise TimescaleVersionError(
            version, "2.25.0 to 2.26.1 give wrong query results; upgrade to 2.26.2 or newer"
        )


def _create_schema(connection: Connection[TupleRow]) -> None:
    """Create what every database begins with, where somebody dropped it to empty the database."""
    row = connection.execute(query("get_current_schema")).fetchone()
    if row is not None and row[0] is not None:
        return
    try:
        connection.execute(query("create_public_schema"))
    except psycopg.Error as error:
        raise MigrationFailedError("CREATE SCHEMA public", _words(error)) from error


def create_timescale(connection: Connection[TupleRow], url: str) -> None:
    """Create the extension if the database lacks it."""
    row = connection.execute(query("get_timescale_installed")).fetchone()
    if row is not None:
        return
    try:
        connection.execute(query("create_timescale"))
    except errors.InsufficientPrivilege as error:
        raise TimescalePrivilegeError(url) from error
    except psycopg.OperationalError as error:  # the loader ends the session
        raise TimescaleNotPreloadedError(url) from error
    except psycopg.Error as error:
        if "preload" in str(error):
            raise TimescaleNotPreloadedError(url) from error
        raise MigrationFailedError("CREATE EXTENSION timescaledb", _words(error)) from error


def _is_of_another(url: str) -> bool:
    """Whether there are tables, and they belong to somebody else."""
    with connect(url) as connection:
        row = connection.execute(query("get_schema_ownership")).fetchone()
    return row is not None and not row[0]


def _create_books(connection: Connection[TupleRow], url: str) -> None:
    try:
        connection.execute(query("create_schema_migration"))
    except errors.InsufficientPrivilege as error:
        row = connection.execute(query("get_current_schema")).fetchone()
        raise SchemaPrivilegeError(url, str(row[0]) if row else "public") from error


def _missing(connection: Connection[TupleRow], known: Sequence[Migration]) -> Sequence[Migration]:
    """Compare what was applied with what we hold; give what is still to be applied."""
    rows = connection.execute(query("list_schema_migrations")).fetchall()
    applied = {int(version): str(checksum) for version, checksum in rows}
    newest = max(applied, default=0)
    if newest > len(known):
        raise SchemaNewerError(newest, len(known))
    for each in known:
        if applied.get(each.version, each.checksum) != each.checksum:
            raise SchemaChangedError(each.name)
    return [each for each in known if each.version not in applied]


def _apply(connection: Connection[TupleRow], migration: Migration) -> str:
    try:
        _apply_at_last(connection, migration)
    except psycopg.Error as error:
        raise MigrationFailedError(migration.name, _words(error)) from error
    return migration.name


def _apply_at_last(connection: Connection[TupleRow], migration: Migration) -> None:
    """Apply it; whoever loses against those who work on the database meanwhile tries again."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _apply_once(connection, migration)
        except errors.DeadlockDetected:
            if attempt == _ATTEMPTS:
                raise
        else:
            return


def _apply_once(connection: Connection[TupleRow], migration: Migration) -> None:
    with connection.transaction():
        connection.execute(migration.text)
        connection.execute(
            query("insert_schema_migration"),
            {
                "version": migration.version,
                "name": migration.name,
                "checksum": migration.checksum,
            },
        )


def _words(error: psycopg.Error) -> str:
    return " ".join(str(error).split())
