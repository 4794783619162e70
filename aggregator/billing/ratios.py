"""Ratios as they are declared: the set in force, what is scheduled, and all that ever was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby

from aggregator.billing.database import Connection, Database, rows_of
from aggregator.billing.scope import Scope, seen_vcs
from aggregator.errors import DatabaseError
from aggregator.rating.ratio import parse
from aggregator.rating.versions import Version, declared, next_minute
from aggregator.store.queries import query

_LIST_RATIO_HISTORY = query("list_ratio_history")
_GET_CLOCK = query("get_clock")
_LIST_LIVE_RATIOS = query("list_live_ratios")


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A ratio of the declared set, or one that is scheduled.

    `starts_at`: when it takes effect; None: it is in force. `ends_at`: when it ends; None:
    when something changes it.
    """

    key: str
    value: Decimal
    starts_at: datetime | None
    ends_at: datetime | None
    is_scheduled: bool
    """Whether it begins later than with the next minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastVersion:
    """A version with its whole story; `starts_at = ends_at`: replaced before its time."""

    key: str
    value: Decimal
    starts_at: datetime
    ends_at: datetime | None
    created_at: datetime
    created_by: str
    reason: str | None
    closed_at: datetime | None
    closed_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    ratio_id: int
    key: str
    value: Decimal
    starts_at: datetime
    ends_at: datetime | None

    def version(self) -> Version[Decimal]:
        return Version(
            version_id=self.ratio_id,
            value=self.value,
            starts_at=self.starts_at,
            ends_at=self.ends_at,
        )


async def list_ratios(
    database: Database, scope: Scope, *, is_scheduled: bool = False
) -> Sequence[Declared]:
    """The declared set, by key: what is in force at the next whole minute.

    `is_scheduled`: also what begins later, by key and start. Prices of a virtual cluster are
    within a scope that knows of the cluster.
    """
    async with database.reading() as connection:
        found = await (_scheduled if is_scheduled else declared_ratios)(connection)
        if scope.is_everything:
            return found
        vcs = await seen_vcs(connection, scope)
    return [each for each in found if _vc_of(each.key) in {None, *vcs}]


async def declared_ratios(connection: Connection) -> Sequence[Declared]:
    """The declared set as the transaction sees it."""
    now = await clock_of(connection)
    versions = await live_versions(connection, now)
    found = ((key, declared(each, now)) for key, each in versions.items())
    return [_declared(key, version, now) for key, version in found if version]


async def _scheduled(connection: Connection) -> Sequence[Declared]:
    now = await clock_of(connection)
    versions = await live_versions(connection, now)
    at = next_minute(now)
    return [
        _declared(key, version, now)
        for key, each in versions.items()
        for version in each
        if version.ends_after(at)
    ]


def _vc_of(key: str) -> str | None:
    meaning = parse(key)
    return meaning.vc if meaning else None


async def list_history(database: Database, key: str | None) -> Sequence[PastVersion]:
    """Every version of a key, or of all, the newest declaration first within its key."""
    async with database.reading() as connection:
        return await rows_of(connection, _LIST_RATIO_HISTORY, {"key": key}, PastVersion)


async def clock_of(connection: Connection) -> datetime:
    """What the database's clock says."""
    cursor = await connection.execute(_GET_CLOCK)
    row = await cursor.fetchone()
    if row is None or not isinstance(row[0], datetime):
        raise DatabaseError("the database does not tell the time")
    return row[0]


async def live_versions(
    connection: Connection, since: datetime, key: str | None = None
) -> Mapping[str, Sequence[Version[Decimal]]]:
    """The versions that hold at `since` or later, of one key or of all, by key and start."""
    rows = await rows_of(connection, _LIST_LIVE_RATIOS, {"since": since, "key": key}, _Row)
    by_key = groupby(rows, key=lambda row: row.key)
    return {key: [row.version() for row in group] for key, group in by_key}


def _declared(key: str, version: Version[Decimal], now: datetime) -> Declared:
    return Declared(
        key=key,
        value=version.value,
        starts_at=version.starts_at if version.starts_at > now else None,
        ends_at=version.ends_at,
        is_scheduled=version.starts_at > next_minute(now),
    )
