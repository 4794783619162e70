"""Closes a period: once all of it is rated, its digest is written, and nothing is added any more.

A close holds the period lock exclusively, so no charge is added while it looks and writes;
whoever adds one afterwards sees the close and books it into an open period instead.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from aggregator.billing.audit import Author, Entry, Subject, record
from aggregator.billing.database import Connection, Database
from aggregator.billing.periods import (
    SET_CLOSE_LIMITS,
    ClosedPeriod,
    bounds,
    closed_period,
    closed_until,
    instant,
    summarise,
)
from aggregator.billing.ratios import clock_of
from aggregator.billing.unpriced import UnpricedUsage, lines_about, list_unpriced
from aggregator.clock import monotonic
from aggregator.model import PERIOD_LOCK, Period
from aggregator.rating.month import month_at, month_name
from aggregator.store.queries import query

_GET_FIRST_BOOKING = query("get_first_booking")
_LOCK_PERIODS = query("lock_periods")
_GET_BACKLOG = query("get_backlog")
_INSERT_PERIOD = query("insert_period")

_log = logging.getLogger(__name__)

_LOOK_AGAIN_SECONDS = 0.5


class PeriodError(Exception):
    """A period cannot be closed; the text says why and what to do."""


class BacklogError(PeriodError):
    """Usage of the period waits to be rated, or a re-rating of it to be done."""


class UnpricedError(PeriodError):
    """Usage of the period has no price, and could get none after the close."""

    def __init__(self, period: Period, found: Sequence[UnpricedUsage]) -> None:
        """Say how much of which keys, and what prices it."""
        super().__init__("\n".join(lines_about(period, found)))
        self.found = found


async def close_period(
    database: Database,
    period: Period,
    author: Author,
    *,
    wait_seconds: float,
    is_unpriced_allowed: bool = False,
) -> ClosedPeriod:
    """Close a period, once the rater has caught up; a closed one is given as it is.

    Raises:
        BacklogError: the rater did not catch up in time.
        UnpricedError: some of it has no price, and that is not allowed.
        PeriodError: it is not over yet, or an earlier one is open.
    """
    deadline = monotonic() + wait_seconds
    while True:
        try:
            return await _close(database, period, author, is_unpriced_allowed=is_unpriced_allowed)
        except BacklogError:
            if monotonic() >= deadline:
                raise
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)


async def _close(
    database: Database, period: Period, author: Author, *, is_unpriced_allowed: bool
) -> ClosedPeriod:
    async with database.changing() as connection:
        if closed := await closed_period(connection, period):
            return closed
        await connection.execute(SET_CLOSE_LIMITS)
        await connection.execute(_LOCK_PERIODS, {"lock": PERIOD_LOCK})
        if closed := await closed_period(connection, period):
            return closed
        now = await clock_of(connection)
        await _check(connection, period, now)
        if not is_unpriced_allowed and (found := await list_unpriced(connection, period)):
            raise UnpricedError(period, found)
        summary = asdict(await summarise(connection, period))
        row = {**bounds(period), **summary, **asdict(author), "closed_at": now}
        await connection.execute(_INSERT_PERIOD, row)
        entry = Entry(
            subject=Subject.PERIOD,
            key=month_name(period),
            action="close",
            old_value=None,
            new_value=str(summary["digest"]),
            effective_at=period.start,
            effective_until=period.end,
        )
        await record(connection, [entry], author)
        closed = await closed_period(connection, period)
    assert closed is not None, "it has just been written"
    fields = {"period": month_name(period), "actor": author.actor, **summary}
    _log.info("period closed", extra={"action": "period_closed", **fields})
    return closed


async def _check(connection: Connection, period: Period, now: datetime) -> None:
    """Raise the reason for which the period cannot be closed now."""
    name = month_name(period)
    if period.end > now:
        raise PeriodError(f"{name} is not over: it can be closed from {period.end:%Y-%m-%d} on")
    until = await closed_until(connection)
    if until and period.end <= until:
        raise PeriodError(
            f"{name} lies before {month_name(month_at(until))}, and all before that is closed: "
            "what is still told of it is booked into the open period"
        )
    earlier = {"starts_at": until, "ends_at": period.start}
    if (first := await instant(connection, _GET_FIRST_BOOKING, earlier)) is not None:
        missing = month_name(month_at(first))
        raise PeriodError(
            f"{missing} is still open: periods are closed in order, so close it first"
        )
    await _check_backlog(connection, period)


async def _check_backlog(connection: Connection, period: Period) -> None:
    cursor = await connection.execute(_GET_BACKLOG, bounds(period))
    groups, rerates = await cursor.fetchone() or (0, 0)
    if groups:
        raise BacklogError(
            f"usage of {month_name(period)} is not rated yet ({groups} groups wait): "
            "try again; if their number stays, see whether nodemeter-aggregator rates"
        )
    if rerates:
        raise BacklogError(
            f"a re-rating that touches {month_name(period)} is not finished: try again later; "
            "`nodemeter rerates` shows how far it is"
        )
