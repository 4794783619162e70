"""Opens connections and pools, and translates what psycopg says into our errors.

Every session is in UTC, without JIT (our queries are short or set-based) and under the
name `nodemeter-aggregator`. A service's session begins in the service's role, so that what
it may do does not depend on who logs in; `RESET ROLE` leads back to that role.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import psycopg
from psycopg import AsyncConnection, Connection, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from aggregator.clock import monotonic
from aggregator.errors import (
    DatabaseAuthError,
    DatabaseError,
    DatabaseMissingError,
    DatabaseUnreachableError,
    DatabaseUrlError,
    RoleRefusedError,
)
from aggregator.store.grants import Role

Pool: TypeAlias = AsyncConnectionPool[AsyncConnection[TupleRow]]

SCHEMA_GONE: Final = (
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.UndefinedFunction,
    errors.InvalidSchemaName,
)
"""What a statement of ours meets where our schema is not, or not ours."""

CONNECT_TIMEOUT_SECONDS = 10
_RENEW_SECONDS = 1.0
_SESSION = "-c timezone=UTC -c datestyle=ISO -c jit=off -c client_min_messages=warning"


class _Pool(AsyncConnectionPool[AsyncConnection[TupleRow]]):
    """A pool that begins all sessions anew when one of them found the schema gone.

    TimescaleDB keeps in each session where its tables are: a session that knew those of a
    schema since dropped fails for ever, also when there is another one.
    """

    _renewed_at: float = -_RENEW_SECONDS

    @asynccontextmanager
    async def connection(
        self,
        timeout: float | None = None,  # noqa: ASYNC109  as psycopg has it
    ) -> AsyncGenerator[AsyncConnection[TupleRow]]:
        """Lend a connection."""
        try:
            async with super().connection(timeout) as connection:
                yield connection
        except (*SCHEMA_GONE, errors.InternalError_):
            await self._renew()
            raise

    async def _renew(self) -> None:
        if monotonic() - self._renewed_at >= _RENEW_SECONDS:
            self._renewed_at = monotonic()
            await self.drain()


def conninfo(url: str, role: Role | None = None) -> str:
    """Turn the configured URL into libpq's terms with our session settings.

    `role` is what the session acts as; None: the login itself.

    Raises `DatabaseUrlError` for what is no connection string.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise DatabaseUrlError(url) from error
    acting = f"-c role={role}" if role else ""
    parts = (str(given.get("options") or ""), _SESSION, acting)
    options = " ".join(part for part in parts if part)
    return make_conninfo(
        url,
        options=options,
        application_name=str(given.get("application_name") or "nodemeter-aggregator"),
        connect_timeout=str(given.get("connect_timeout") or CONNECT_TIMEOUT_SECONDS),
    )


def login_of(url: str) -> str:
    """Who logs in by that URL, by libpq's rules."""
    given = conninfo_to_dict(url).get("user")
    default = next(each for each in Conninfo.get_defaults() if each.keyword == b"user")
    return str(given or (default.val or b"").decode())


def connect(url: str, role: Role | None = None) -> Connection[TupleRow]:
    """Open one connection, for migrations; the caller closes it.

    Raises the `DatabaseError` that says why it cannot be had.
    """
    info = conninfo(url, role)
    try:
        return psycopg.connect(info, autocommit=True)
    except psycopg.OperationalError as error:
        raise _refusal(url, error, role) from error


async def open_pool(
    url: str, *, role: Role | None = None, min_size: int = 1, max_size: int = 8
) -> Pool:
    """Open a pool whose first connection is proven; the caller closes it.

    `role` is the service that it is for. Raises the `DatabaseError` that says why it cannot
    be had, at once and not after the pool's own timeout.
    """
    info = conninfo(url, role)
    try:
        async with await AsyncConnection.connect(info):
            pass
    except psycopg.OperationalError as error:
        raise _refusal(url, error, role) from error
    pool = _Pool(
        info,
        min_size=min_size,
        max_size=max_size,
        open=False,
        check=AsyncConnectionPool.check_connection,
        name="nodemeter-aggregator",
    )
    await pool.open()
    return pool


def _refusal(url: str, error: psycopg.OperationalError, role: Role | None = None) -> DatabaseError:
    """Tell the reasons apart; libpq gives no code for a failed login, only its words."""
    detail = " ".join(str(error).replace("connection failed: ", "").split())
    if role and f'role "{role}"' in detail:
        return RoleRefusedError(url, role)
    if isinstance(error, errors.ConnectionTimeout):
        return DatabaseUnreachableError(url, "no answer in time")
    if any(word in detail for word in ("authentication", "no password", "pg_hba.conf", "role")):
        return DatabaseAuthError(url, detail)
    if "does not exist" in detail and "database" in detail:
        return DatabaseMissingError(url, detail)
    return DatabaseUnreachableError(url, detail)
