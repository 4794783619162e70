"""Ratios: the declared set, its changes as versions, its history, imports with a diff.

A change holds the price lock exclusively and reads the clock of the database after it has
it, so no record can be rated at a price that the change replaces.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Literal

from aggregator.billing.database import Connection, Database, rows_of
from aggregator.errors import DatabaseError
from aggregator.model import PRICE_LOCK, RatioId
from aggregator.rating.ratio import parse, why_unstorable
from aggregator.rating.versions import Change, Opening, Version, declare, declared, withdraw
from aggregator.store.queries import query

_LIST_RATIO_HISTORY = query("list_ratio_history")
_log = logging.getLogger(__name__)

_LOCK_PRICES = query("lock_prices")
_CLOSE_RATIO = query("close_ratio")
_INSERT_RATIO = query("insert_ratio")
_GET_CLOCK = query("get_clock")
_LIST_LIVE_RATIOS = query("list_live_ratios")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A key and its value, as declared last."""

    key: str
    value: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared(Ratio):
    """A ratio of the declared set. `starts_at`: when it takes effect; None: it is in force."""

    starts_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who changes a price, and why."""

    actor: str
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a change does to one key: from `old` (None: nothing declared) to `new`."""

    key: str
    action: Literal["add", "change", "delete", "keep"]
    old: Decimal | None
    new: Decimal | None
    effective_at: datetime | None
    """When it takes effect; None where nothing changes."""


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

    def version(self) -> Version:
        return Version(
            ratio_id=RatioId(self.ratio_id),
            value=self.value,
            starts_at=self.starts_at,
            ends_at=self.ends_at,
        )


async def list_ratios(database: Database) -> Sequence[Declared]:
    """The declared set, by key: what is in force at the next whole minute."""
    async with database.reading() as connection:
        return await declared_ratios(connection)


async def declared_ratios(connection: Connection) -> Sequence[Declared]:
    """The declared set as the transaction sees it."""
    now = await _clock(connection)
    versions = await _versions(connection, now)
    found = ((key, declared(each, now)) for key, each in versions.items())
    return [
        Declared(
            key=key,
            value=version.value,
            starts_at=version.starts_at if version.starts_at > now else None,
        )
        for key, version in found
        if version
    ]


async def set_ratio(
    database: Database, ratio: Ratio, author: Author, start: datetime | None = None
) -> Difference:
    """Declare one value, from `start` or as soon as may be. Raises StartError."""
    async with database.changing() as connection:
        prices = await _Prices.locked(connection, author, ratio.key)
        difference = await prices.set(ratio, start)
    _log_changes([difference], author)
    return difference


async def delete_ratio(database: Database, key: str, author: Author) -> Difference | None:
    """Leave a key without a price; None if it has none."""
    if why_unstorable(key):
        return None
    async with database.changing() as connection:
        prices = await _Prices.locked(connection, author, key)
        difference = await prices.delete(key)
    _log_changes([difference] if difference else [], author)
    return difference


async def import_ratios(
    database: Database,
    ratios: Iterable[Ratio],
    author: Author,
    *,
    replaces_all: bool,
    is_dry_run: bool,
) -> Sequence[Difference]:
    """Declare many values at once, or only say what that would do; all or nothing.

    `replaces_all` also deletes every key that is not among them. The keys must differ.
    """
    wanted = {ratio.key: ratio for ratio in ratios}
    async with database.changing(undo=is_dry_run) as connection:
        prices = await _Prices.locked(connection, author)
        differences = [await prices.set(ratio) for _, ratio in sorted(wanted.items())]
        if replaces_all:
            surplus = sorted(prices.versions.keys() - wanted.keys())
            gone = [await prices.delete(key) for key in surplus]
            differences += [each for each in gone if each]
    _log_changes([] if is_dry_run else differences, author)
    return differences


async def list_history(database: Database, key: str | None) -> Sequence[PastVersion]:
    """Every version of a key, or of all, the newest declaration first within its key."""
    async with database.reading() as connection:
        return await rows_of(connection, _LIST_RATIO_HISTORY, {"key": key}, PastVersion)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prices:
    """The versions of one transaction that may change them, and the instant it acts at."""

    connection: Connection
    author: Author
    now: datetime
    versions: Mapping[str, Sequence[Version]]

    @classmethod
    async def locked(
        cls, connection: Connection, author: Author, key: str | None = None
    ) -> "_Prices":
        """Shut the rater out until the transaction ends, and only then ask the time."""
        await connection.execute(_LOCK_PRICES, {"lock": PRICE_LOCK})
        now = await _clock(connection)
        versions = await _versions(connection, now, key)
        return cls(connection=connection, author=author, now=now, versions=versions)

    async def set(self, ratio: Ratio, start: datetime | None = None) -> Difference:
        versions = self.versions.get(ratio.key, ())
        change = declare(versions, ratio.value, self.now, start)
        before = declared(versions, self.now)
        if change:
            await self._apply(ratio.key, change)
        return Difference(
            key=ratio.key,
            action="keep" if change is None else "change" if before else "add",
            old=before.value if before else None,
            new=ratio.value,
            effective_at=change.opens.starts_at if change and change.opens else None,
        )

    async def delete(self, key: str) -> Difference | None:
        versions = self.versions.get(key, ())
        change = withdraw(versions, self.now)
        if change is None:
            return None
        before = declared(versions, self.now)
        await self._apply(key, change)
        return Difference(
            key=key,
            action="delete",
            old=before.value if before else None,
            new=None,
            effective_at=change.closes[0][1],
        )

    async def _apply(self, key: str, change: Change) -> None:
        for ratio_id, ends_at in change.closes:
            await self.connection.execute(
                _CLOSE_RATIO,
                {"ratio_id": ratio_id, "ends_at": ends_at, "actor": self.author.actor},
            )
        if change.opens:
            await self._open(key, change.opens)

    async def _open(self, key: str, opening: Opening) -> None:
        meaning = parse(key)
        await self.connection.execute(
            _INSERT_RATIO,
            {
                "key": key,
                "type": meaning and meaning.type.value,
                "model": meaning and meaning.model,
                "vc": meaning and meaning.vc,
                "value": opening.value,
                "starts_at": opening.starts_at,
                "ends_at": opening.ends_at,
                "actor": self.author.actor,
                "reason": self.author.reason,
            },
        )


def _log_changes(differences: Iterable[Difference], author: Author) -> None:
    for each in differences:
        if each.action != "keep":
            fields = {"key": each.key, "old": each.old, "new": each.new, "actor": author.actor}
            _log.info("price changed", extra={"action": "price_changed", **fields})


async def _clock(connection: Connection) -> datetime:
    cursor = await connection.execute(_GET_CLOCK)
    row = await cursor.fetchone()
    if row is None or not isinstance(row[0], datetime):
        raise DatabaseError("the database does not tell the time")
    return row[0]


async def _versions(
    connection: Connection, now: datetime, key: str | None = None
) -> Mapping[str, Sequence[Version]]:
    """The versions that hold at `now` or later, by key and start."""
    rows = await rows_of(connection, _LIST_LIVE_RATIOS, {"since": now, "key": key}, _Row)
    by_key = groupby(rows, key=lambda row: row.key)
    return {key: [row.version() for row in group] for key, group in by_key}
