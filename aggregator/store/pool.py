"""Opens connections and pools, and translates what psycopg says into our errors.

Every session is in UTC, without JIT (our queries are short or set-based) and under the
name `nodemeter-aggregator`.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import psycopg
from psycopg import AsyncConnection, Connection, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from aggregator.clock import monotonic
from aggregator.errors import (
    DatabaseAuthError,
    DatabaseError,
    DatabaseMissingError,
    DatabaseUnreachableError,
    DatabaseUrlError,
)

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
_SESSION = "-c timezone=UTC -c jit=off -c client_min_messages=warning"


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


def conninfo(url: str) -> str:
    """Turn the configured URL into libpq's terms with our session settings.

    Raises `DatabaseUrlError` for what is no connection string.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise DatabaseUrlError(url) from error
    options = " ".join(part for part in (str(given.get("options") or ""), _SESSION) if part)
    return make_conninfo(
        url,
        options=options,
        application_name=str(given.get("application_name") or "nodemeter-aggregator"),
        connect_timeout=str(given.get("connect_timeout") or CONNECT_TIMEOUT_SECONDS),
    )


def connect(url: str) -> Connection[TupleRow]:
    """Open one connection, for migrations; the caller closes it.

    Raises the `DatabaseError` that says why it cannot be had.
    """
    info = conninfo(url)
    try:
        return psycopg.connect(info, autocommit=True)
    except psycopg.OperationalError as error:
        raise _refusal(url, error) from error


async def open_pool(url: str, *, min_size: int = 1, max_size: int = 8) -> Pool:
    """Open a pool whose first connection is proven; the caller closes it.

    Raises the `DatabaseError` that says why it cannot be had, at once and not after
    the pool's own timeout.
    """
    info = conninfo(url)
    try:
        async with await AsyncConnection.connect(info):
            pass
    except psycopg.OperationalError as error:
        raise _refusal(url, error) from error
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


def _refusal(url: str, error: psycopg.OperationalError) -> DatabaseError:
    """Tell the reasons apart; libpq gives no code for a failed login, only its words."""
    detail = " ".join(str(error).replace("connection failed: ", "").split())
    if isinstance(error, errors.ConnectionTimeout):
        return DatabaseUnreachableError(url, "no answer in time")
    if any(word in detail for word in ("authentication", "no password", "pg_hba.conf", "role")):
        return DatabaseAuthError(url, detail)
    if "does not exist" in detail and "database" in detail:
        return DatabaseMissingError(url, detail)
    return DatabaseUnreachableError(url, detail)
