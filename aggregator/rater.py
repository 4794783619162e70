"""The rater: adds the usage of unrated ingest groups to charges and bills, exactly once.

The work is SQL over sets (`store/sql/rater.sql`); here are only the order of the
statements and the choice of groups. One round is one transaction: it locks groups, rates
their records and marks them rated, so a round that fails has done nothing. While it
runs no price changes (`PRICE_LOCK`) and no period is closed (`PERIOD_LOCK`), and usage
that ends in the future is left alone: what is rated can never be repriced by a change that
starts from now on.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg
from psycopg import AsyncCursor
from psycopg.rows import TupleRow

from aggregator.clock import monotonic
from aggregator.metrics import Metrics
from aggregator.model import PERIOD_LOCK, PRICE_LOCK, RATER_LOCK, IngestGroupId
from aggregator.rerater import RerateError, rerate_round
from aggregator.sealer import seal_hours
from aggregator.settings import RaterSettings
from aggregator.store.outage import Outage
from aggregator.store.pool import Pool
from aggregator.store.queries import query

_TRY_RATER_LOCK = query("try_rater_lock")
_SET_RATER_SESSION = query("set_rater_session")
_SHARE_PERIOD_LOCK = query("share_period_lock")
_SHARE_PRICE_LOCK = query("share_price_lock")
_LOCK_UNRATED_GROUPS = query("lock_unrated_groups")
_LIST_PRICE_BOUNDARIES = query("list_price_boundaries")
_CREATE_BILLS = query("create_bills")
_RATE_GROUPS = query("rate_groups")
_MARK_GROUPS_RATED = query("mark_groups_rated")
_SETTLE_RUNS = query("settle_runs")
_GET_RATER_LAG = query("get_rater_lag")

_LOGGER: Final = logging.getLogger(__name__)
_MAX_GROUPS: Final = 2_000
_MAX_SPREAD: Final = 50
"""Group ids between two groups of one round; the records of those between are read in vain."""


class RaterError(Exception):
    """An item was charged that has no bill; the round is undone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """An ingest group that waits to be rated."""

    ingest_group_id: IngestGroupId
    record_count: int
    min_started_at: datetime | None
    max_ended_at: datetime | None


async def rate_pending(
    pool: Pool, metrics: Metrics, *, max_records: int = RaterSettings().max_records
) -> int:
    """Rate all that can be rated now; give the number of records."""
    total = 0
    while True:
        groups = await rate_round(pool, metrics, max_records=max_records)
        if not groups:
            return total
        total += sum(group.record_count for group in groups)


async def rate_round(pool: Pool, metrics: Metrics, *, max_records: int) -> Sequence[Group]:
    """Rate some groups in one transaction; none if nothing waits or another rater works."""
    async with (
        pool.connection() as connection,
        connection.transaction(),
        connection.cursor() as cursor,
    ):
        if not await _lock(cursor):
            return []
        groups = choose(await _lock_groups(cursor), max_records=max_records)
        if not groups:
            return []
        with metrics.rater_seconds.time():
            unpriced = await _rate(cursor, groups)
    metrics.rated_records.inc(sum(group.record_count for group in groups))
    for type_, charges in unpriced.items():
        metrics.unpriced_charges.labels(type_).inc(charges)
    return groups


def choose(waiting: Sequence[Group], *, max_records: int) -> Sequence[Group]:
    """Take groups from the oldest on: one at least, and as many as are near and not too big."""
    chosen: list[Group] = []
    records = 0
    for group in waiting:
        records += group.record_count
        if chosen and (
            records > max_records
            or group.ingest_group_id - chosen[-1].ingest_group_id > _MAX_SPREAD
        ):
            break
        chosen.append(group)
    return chosen


class Rater:
    """Rates in rounds, for ever."""

    def __init__(self, pool: Pool, settings: RaterSettings, metrics: Metrics) -> None:
        """Do nothing until `run`."""
        self._pool = pool
        self._settings = settings
        self._metrics = metrics
        self._outage = Outage(_LOGGER, "rating failed", "rate")

    async def run(self) -> None:
        """Rate what waits, then wait; until cancelled. A failure is tried again."""
        while True:
            is_busy = False
            try:
                is_busy = await self._turn()
                self._outage.end()
            except (psycopg.Error, RaterError, RerateError) as error:
                self._metrics.rater_errors.inc()
                self._outage.begin(error)
            if not is_busy:
                await asyncio.sleep(self._settings.interval_seconds)

    async def _turn(self) -> bool:
        """Rate a round of usage, and one of what is to be rated again; whether there was any.

        Then seal what is over.
        """
        groups = await rate_round(self._pool, self._metrics, max_records=self._settings.max_records)
        lines = await self._rerate()
        await seal_hours(self._pool, self._settings)
        await self._observe_lag()
        return bool(groups) or lines is not None

    async def _rerate(self) -> int | None:
        """Rate again for a while, and rest as long: the past may wait, what comes in may not."""
        began = monotonic()
        lines = await rerate_round(self._pool, self._metrics)
        if lines is not None:
            await asyncio.sleep(monotonic() - began)
        return lines

    async def _observe_lag(self) -> None:
        async with self._pool.connection() as connection:
            row = await (await connection.execute(_GET_RATER_LAG)).fetchone()
        self._metrics.rater_lag_seconds.set(0 if row is None or row[0] is None else row[0])


async def _lock(cursor: AsyncCursor[TupleRow]) -> bool:
    """Become the rater, and hold periods and prices still; False if another one rates."""
    await cursor.execute(_TRY_RATER_LOCK, {"lock": RATER_LOCK})
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return False
    await cursor.execute(_SET_RATER_SESSION)
    await cursor.execute(_SHARE_PERIOD_LOCK, {"lock": PERIOD_LOCK})
    await cursor.execute(_SHARE_PRICE_LOCK, {"lock": PRICE_LOCK})
    return True


async def _lock_groups(cursor: AsyncCursor[TupleRow]) -> Sequence[Group]:
    await cursor.execute(_LOCK_UNRATED_GROUPS, {"limit": _MAX_GROUPS})
    return [
        Group(
            ingest_group_id=IngestGroupId(ingest_group_id),
            record_count=record_count,
            min_started_at=min_started_at,
            max_ended_at=max_ended_at,
        )
        for ingest_group_id, record_count, min_started_at, max_ended_at in await cursor.fetchall()
    ]


async def _rate(cursor: AsyncCursor[TupleRow], groups: Sequence[Group]) -> dict[str, int]:
    """Rate the groups; give the number of unpriced charges by type."""
    ids = [group.ingest_group_id for group in groups]
    starts = [each.min_started_at for each in groups if each.min_started_at is not None]
    ends = [each.max_ended_at for each in groups if each.max_ended_at is not None]
    await cursor.execute(_CREATE_BILLS, {"ingest_group_ids": ids})
    unpriced: dict[str, int] = {}
    if starts and ends:
        span = {"starts_at": min(starts), "ends_at": max(ends)}
        await cursor.execute(_LIST_PRICE_BOUNDARIES, span)
        boundaries = [row[0] for row in await cursor.fetchall()]
        await cursor.execute(
            _RATE_GROUPS,
            {
                **span,
                "boundaries": boundaries,
                "first_group_id": min(ids),
                "last_group_id": max(ids),
                "ingest_group_ids": ids,
            },
            prepare=False,  # a plan made for these very values leaves out all other chunks
        )
        unpriced = _unpriced(await cursor.fetchone())
    await cursor.execute(_MARK_GROUPS_RATED, {"ingest_group_ids": ids})
    await cursor.execute(_SETTLE_RUNS, {"ingest_group_ids": ids})
    return unpriced


def _unpriced(row: TupleRow | None) -> dict[str, int]:
    assert row is not None
    item_count, billed_count, unpriced = row
    if item_count != billed_count:
        raise RaterError(f"{item_count} items were charged and {billed_count} bills found")
    return dict(unpriced)
