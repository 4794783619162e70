"""The use cases' way to the database: bounded transactions, and one error when it fails.

Whatever psycopg raises within becomes a `DatabaseError`, so that no caller needs to know
psycopg. Readers see one snapshot. One connection of the pool is never taken: however many
slow clients there are, the question whether the service is ready has an answer.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any, Generic, TypeAlias, TypeVar

import psycopg
from psycopg import AsyncConnection, AsyncCursor, AsyncServerCursor
from psycopg._cursor_base import BaseCursor
from psycopg.rows import BaseRowFactory, RowMaker, TupleRow, class_row

from aggregator.errors import (
    DatabaseError,
    GrantsMissingError,
    QueryTooLongError,
    SchemaIncompleteError,
)
from aggregator.store.grants import wanted
from aggregator.store.migrate import known_migrations
from aggregator.store.outage import Outage, meaning
from aggregator.store.pool import Pool
from aggregator.store.queries import Query, query

_BEGIN_SNAPSHOT = query("begin_snapshot")
_SET_REQUEST_LIMITS = query("set_request_limits")
_GET_SCHEMA_VERSION = query("get_schema_version")
_LIST_MISSING_OBJECTS = query("list_missing_objects")
_LIST_GRANT_STATEMENTS = query("list_grant_statements")

_log = logging.getLogger(__name__)

Connection: TypeAlias = AsyncConnection[TupleRow]
Parameters: TypeAlias = Mapping[str, object]
Row = TypeVar("Row")
Other = TypeVar("Other")

NODE_LOST_AFTER = timedelta(minutes=10)
"""After this silence a node's jobs show as not running, until it speaks again."""

CHUNK_ROWS = 500
"""Rows that a long list holds in memory at a time."""

SHORT_ROWS = 2000
"""What has no more of them is short: it is in memory whole."""

_WAIT_SECONDS = 5.0
_STATEMENT_SECONDS = 30
_LOCK_MS = 10_000
_IDLE_MS = 60_000


class Listing(Generic[Row]):
    """A long answer, read in chunks within the transaction that opened it."""

    def __init__(
        self, cursor: AsyncServerCursor[Row] | None = None, *, begun: Sequence[Row] = ()
    ) -> None:
        """Give the rows that were read already, then those of `cursor`, which was executed."""
        self._begun = begun
        self._cursor = cursor

    async def chunk(self, most: int = CHUNK_ROWS) -> Sequence[Row]:
        """The next rows, at most so many; none at the end."""
        if self._begun:
            rows, self._begun = self._begun[:most], self._begun[most:]
            return rows
        if self._cursor is None:
            return ()
        with _translated():
            rows = await self._cursor.fetchmany(most)
        if len(rows) < most:
            self._cursor = None
        return rows


class Database:
    """Transactions for requests, on the aggregator's pool."""

    def __init__(self, pool: Pool, *, statement_seconds: int = _STATEMENT_SECONDS) -> None:
        """Serve from `pool`, which the caller opens and closes; no query may take longer."""
        self._pool = pool
        self._limits = {
            "statement_ms": str(statement_seconds * 1000),
            "lock_ms": str(min(_LOCK_MS, statement_seconds * 1000)),
            "idle_ms": str(_IDLE_MS),
        }
        self._outage = Outage(_log, "the database does not answer requests", "request_database")
        self._turns = asyncio.Semaphore(max(1, pool.max_size - 1))

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[Connection]:
        """A read-only transaction on one snapshot."""
        async with self._transaction() as connection:
            async with connection.pipeline():
                await connection.execute(_BEGIN_SNAPSHOT)
                await connection.execute(_SET_REQUEST_LIMITS, self._limits)
            yield connection

    @asynccontextmanager
    async def changing(self, *, undo: bool = False) -> AsyncGenerator[Connection]:
        """A transaction that commits unless an exception leaves it, or `undo` asks not to."""
        async with self._transaction(undo=undo) as connection:
            await connection.execute(_SET_REQUEST_LIMITS, self._limits)
            yield connection

    async def schema_is_current(self) -> bool:
        """Whether the database answers and was migrated to this software's schema.

        It takes no turn: requests that wait for theirs do not make the service unready.
        Raises a `DatabaseError` for what was dropped or taken away since.
        """
        with _translated(self._outage):
            async with self._pool.connection(timeout=_WAIT_SECONDS) as connection:
                cursor = await connection.execute(_GET_SCHEMA_VERSION)
                row = await cursor.fetchone()
                if row is None or row[0] != len(known_migrations()):
                    return False
                await _check_objects(connection)
        return True

    @asynccontextmanager
    async def _transaction(self, *, undo: bool = False) -> AsyncGenerator[Connection]:
        async with self._turn():
            with _translated(self._outage):
                async with (
                    self._pool.connection(timeout=_WAIT_SECONDS) as connection,
                    connection.transaction(force_rollback=undo),
                ):
                    yield connection

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._turns.acquire()
        except TimeoutError as error:
            _log.warning("too many requests at once", extra={"action": "request_turn"})
            raise DatabaseError("too many requests read from the database at once") from error
        try:
            yield
        finally:
            self._turns.release()


async def _check_objects(connection: Connection) -> None:
    """See that all tables are there, and that every service may do what it has to."""
    cursor = await connection.execute(_LIST_MISSING_OBJECTS, wanted())
    lacking = [str(name) for (name,) in await cursor.fetchall()]
    if lacking:
        raise SchemaIncompleteError(lacking)
    cursor = await connection.execute(_LIST_GRANT_STATEMENTS, wanted())
    grants = [str(statement) for statement, is_needed in await cursor.fetchall() if is_needed]
    if grants:
        raise GrantsMissingError("; ".join(grants))


@contextmanager
def _translated(outage: Outage | None = None) -> Generator[None]:
    """Say what it means that psycopg raised, and log how that goes on."""
    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        raise QueryTooLongError from error
    except psycopg.Error as error:
        if outage:
            outage.begin(error)
        raise meaning(error) from error
    if outage:
        outage.end()


async def rows_of(
    connection: Connection,
    statement: Query,
    parameters: Parameters,
    kind: type[Row],
    *,
    prepare: bool | None = None,
) -> Sequence[Row]:
    """All rows of a short answer, each as a `kind` built from its columns by name.

    `prepare` False: planned for these very parameters, however often it is asked.
    """
    async with connection.cursor(row_factory=maker_of(kind)) as cursor:
        await cursor.execute(statement, parameters, prepare=prepare)
        return await cursor.fetchall()


async def ask(
    connection: Connection, statement: Query, parameters: Parameters, make: BaseRowFactory[Row]
) -> AsyncCursor[Row]:
    """Ask, planned for these very parameters: a plan for any could use no index.

    Within a pipeline of the connection the answer is there when that is over.
    """
    cursor = connection.cursor(row_factory=make)
    return await cursor.execute(statement, parameters, prepare=False)


@asynccontextmanager
async def listing_of(
    connection: Connection, statement: Query, parameters: Parameters, kind: type[Row]
) -> AsyncGenerator[Listing[Row]]:
    """A long answer, by a cursor of the server."""
    async with listing_made(connection, statement, parameters, maker_of(kind)) as rows:
        yield rows


@asynccontextmanager
async def listing_made(
    connection: Connection,
    statement: Query,
    parameters: Parameters,
    make: BaseRowFactory[Row],
    *,
    begun: Sequence[Row] = (),
) -> AsyncGenerator[Listing[Row]]:
    """The same, of rows that are made otherwise; `begun`: what came before."""
    async with connection.cursor(name="listing", row_factory=make) as cursor:
        await cursor.execute(statement, parameters)
        yield Listing(cursor, begun=begun)


def pairs_of(first: type[Row], second: type[Other]) -> BaseRowFactory[tuple[Row, Other]]:
    """What makes two named tuples of a row: the first ones of its columns are the first one's."""
    (make, columns), (make_other, other_columns) = _tuple_kind(first), _tuple_kind(second)

    def factory(cursor: BaseCursor[Any, Any]) -> RowMaker[tuple[Row, Other]]:
        _check_columns(cursor, (*columns, *other_columns))
        count = len(columns)
        return lambda values: (make(values[:count]), make_other(values[count:]))

    return factory


def maker_of(kind: type[Row]) -> BaseRowFactory[Row]:
    """What makes a `kind` of a row: of a named tuple its columns in order, else by name."""
    if not hasattr(kind, "_make"):
        return class_row(kind)
    make, columns = _tuple_kind(kind)

    def factory(cursor: BaseCursor[Any, Any]) -> RowMaker[Row]:
        _check_columns(cursor, columns)
        return make

    return factory


def _tuple_kind(kind: type[Row]) -> tuple[RowMaker[Row], tuple[str, ...]]:
    """What makes a named tuple of values in order, and their names."""
    make: RowMaker[Row] = getattr(kind, "_make")  # noqa: B009 - type[Row] tells nothing of it
    columns: tuple[str, ...] = getattr(kind, "_fields")  # noqa: B009
    return make, columns


def _check_columns(cursor: BaseCursor[Any, Any], wanted: Sequence[str]) -> None:
    found = tuple(column.name for column in cursor.description or ())
    if found and found != tuple(wanted):
        raise TypeError(f"the fields {wanted} are to be made of the columns {found}")
