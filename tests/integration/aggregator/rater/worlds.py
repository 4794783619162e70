"""Plays a random world on a real database, and compares all that is there with the model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from functools import reduce
from typing import LiteralString, TypeAlias, TypeVar

import psycopg
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier

from aggregator.billing.audit import Author
from aggregator.billing.closing import close_period
from aggregator.billing.database import Database
from aggregator.billing.periods import get_period
from aggregator.billing.rerating import Order, order_rerate, preview_rerate
from aggregator.metrics import Metrics
from aggregator.model import Period
from aggregator.rater import rate_pending
from aggregator.rating import money
from aggregator.rating.booking import Line
from aggregator.rating.price import EXACT
from aggregator.rating.rate import AccountHour, Bill, RatioVersion, Record
from aggregator.rerater import rerate_pending
from aggregator.store.grants import Role
from aggregator.store.pool import Pool, open_pool
from aggregator.units import UNITS
from tests.integration.aggregator.rater.world import (
    FIRST_HOUR,
    NOW,
    Arrive,
    Close,
    Declare,
    Rerate,
    Seal,
    World,
    random_world,
)

_FORGET = """
    TRUNCATE usage, charge, adjustment, late_account, daily, daily_class, item_class, bill, meter,
        price_class, run, node, node_meter, node_account, ingest_group, ratio, method, stream,
        batch, stream_gap, quarantine, period, seal, rerate, rerate_progress
        RESTART IDENTITY CASCADE
"""

_PEAKS = """
    SELECT meter_id, used_hour, max(peak) FROM booking WHERE kind IN ('charge', 'late')
    GROUP BY 1, 2
"""
_PEAKS_USED = """
    SELECT meter_id, date_trunc('hour', started_at, 'UTC'),
        max(CASE observed_ms WHEN 0 THEN 0 ELSE used / observed_ms END)
    FROM usage WHERE meter_id > 0 GROUP BY 1, 2
"""
_CLASSED_DAYS = """
    SELECT day, item_class_id, allocated, used, effective, billed, unpriced, length_ms, amount
    FROM daily_class
"""
_CLASSED_BOOKINGS = """
    SELECT date_trunc('day', booking.hour, 'UTC'), bill.item_class_id, sum(booking.allocated),
        sum(booking.used), sum(booking.effective), sum(booking.billed),
        coalesce(sum(booking.billed) FILTER (WHERE booking.ratio_id = 0), 0),
        sum(booking.length_ms), sum(booking.amount)
    FROM booking JOIN bill USING (bill_id) JOIN item_class AS class USING (item_class_id)
    WHERE (class.cluster, class.vc, class.project, class.namespace, class.kind, class.type)
            = (bill.cluster, bill.vc, bill.project, bill.namespace, bill.kind, bill.type)
        AND class.model IS NOT DISTINCT FROM bill.model
        AND class.quota = CASE WHEN bill.type IN ('gpu', 'npu') THEN bill.quota ELSE 0 END
    GROUP BY 1, 2
"""
_SPANS = "SELECT bill_id, first_day, last_day FROM bill WHERE first_day IS NOT NULL"
_SPANS_BOOKED = """
    SELECT bill_id, date_trunc('day', min(hour), 'UTC'), date_trunc('day', max(hour), 'UTC')
    FROM booking GROUP BY 1
"""
CLERK = Author(actor="clerk", reason="because")
Key: TypeAlias = tuple[datetime, datetime, str, int, int]
Values: TypeAlias = tuple[object, ...]
Row = TypeVar("Row")


class DifferenceError(AssertionError):
    """The database is not what the model says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Player:
    """A world on a database of its own, which is migrated and empty."""

    world: World
    connection: psycopg.Connection[TupleRow]
    pool: Pool
    database: Database

    async def play(self) -> None:
        """Every step, and what must hold after some; then all that there is."""
        self._put_meters()
        self._put_prices()
        digests: dict[Period, str] = {}
        for step in self.world.steps:
            match step:
                case Arrive():
                    self.world.arrive(step)
                    await self._arrive(step)
                case Declare():
                    self._declare(step)
                case Rerate():
                    await self._rerate(step)
                case Seal():
                    self.world.seal(step)
                    self.connection.execute("INSERT INTO seal VALUES (%s, now())", (step.until,))
                case Close():
                    self.world.close(step)
                    closed = await close_period(
                        self.database,
                        step.month,
                        CLERK,
                        wait_seconds=0,
                        is_unpriced_allowed=True,
                    )
                    digests[step.month] = closed.digest
        self.compare()
        for month, digest in digests.items():
            found = await get_period(self.database, month, verify=True)
            _same("the digest of a closed period", found.recomputed, digest)

    def compare(self) -> None:
        """All charges, adjustments, days, bills and accounts."""
        _same_rows("booking", self._lines(), _expected(self.world.lines))
        _same_rows("daily", self._days("daily"), self._days("booked"))
        _same_rows("daily_class", self._pairs(_CLASSED_DAYS), self._pairs(_CLASSED_BOOKINGS))
        _same_rows("peak", self._pairs(_PEAKS), self._pairs(_PEAKS_USED))
        _same_rows("span", self._spans(_SPANS), self._spans(_SPANS_BOOKED))
        bills = {bill.bill_id: astuple(bill) for bill in self._bills()}
        wanted = {bill_id: astuple(bill) for bill_id, bill in self.world.bills().items()}
        _same_rows("bill", bills, wanted)
        _same("the accounts of nodes", self._account_hours(), self.world.account_hours())

    async def _arrive(self, step: Arrive) -> None:
        for records in step.groups:
            self._put_group(records)
        await rate_pending(self.pool, Metrics(), max_records=len(step.groups[0]) + 1)

    def _declare(self, step: Declare) -> None:
        overlay = self.world.declare(step)
        for ratio_id, ends_at in overlay.ends:
            self.connection.execute(
                "UPDATE ratio SET ends_at = %s WHERE ratio_id = %s", (ends_at, ratio_id)
            )
        for version in overlay.opened:
            self._put_ratio(step.key, version)

    async def _rerate(self, step: Rerate) -> None:
        order = Order(range=Period(start=step.start, end=step.end), key=step.key)
        if step.key is not None and step.key not in self.world.ratios:
            return
        async with preview_rerate(self.database, order) as jobs:
            rows = list(await jobs.chunk())
        foreseen = [row.exact_difference for row in rows]
        appended = self.world.rerate(step)
        unit_of = {each.meter_id: UNITS[each.type] for each in self.world.meters.values()}
        changes = [
            money.exact_fee(line.charge.amount, unit_of[line.charge.meter_id]) for line in appended
        ]
        _same("what a dry run foresees", sum(foreseen), sum(changes))
        _same("how many charges a dry run foresees", sum(row.charges for row in rows) * 2,
              len(appended))  # fmt: skip
        await order_rerate(self.database, order, CLERK)
        lines = await rerate_pending(self.pool, Metrics(), limit=step.batch)
        _same("how many lines were appended", lines, len(appended))

    def _put_prices(self) -> None:
        for key, versions in self.world.ratios.items():
            for version in versions:
                self._put_ratio(key, version)
        self.connection.execute("DELETE FROM method")
        with self.connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO method (type, method, starts_at, ends_at, created_at, created_by)"
                " VALUES (%s, %s, coalesce(%s::timestamptz, '-infinity'), %s, now(), 'test')",
                [
                    (each.type, each.method, each.starts_at, each.ends_at)
                    for each in self.world.methods
                ],
            )

    def _put_ratio(self, key: str, version: RatioVersion) -> None:
        meaning = version.key
        self.connection.execute(
            "INSERT INTO ratio (ratio_id, key, type, model, vc, value, starts_at, ends_at,"
            " created_at, created_by) OVERRIDING SYSTEM VALUE"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, now(), 'test')",
            (
                version.ratio_id,
                key,
                meaning and meaning.type,
                meaning and meaning.model,
                meaning and meaning.vc,
                version.value,
                version.starts_at,
                version.ends_at,
            ),
        )

    def _put_meters(self) -> None:
        meters = list(self.world.meters.values())
        self.connection.execute(
            """
            INSERT INTO node (name, cluster, address, boot_id, machine_id, agent_version, cpu_m,
                mem_kib, cpu_model, devices, first_seen_at, last_seen_at)
            VALUES ('n1', 'c1', '10.0.0.7', 'b', 'm', '0.1.0', 1, 1, '', '[]', now(), now());
            INSERT INTO node_meter (node_id, account, type)
            SELECT node_id, account, 'cpu'
            FROM node, unnest(ARRAY['capacity', 'idle']) AS account
            """
        )
        self.connection.execute(
            """
            INSERT INTO run (node_id, run_key, provider, cluster, job_id, job_name, user_id, vc,
                project, namespace, kind, started_at)
            SELECT 1, vc, 'files', 'c1', vc, vc, gen_random_uuid(), vc, '', '', 'job', %s
            FROM unnest(%s::text[]) AS vc
            """,
            (FIRST_HOUR, sorted({each.vc for each in meters})),
        )
        columns = (
            [str(each.type) for each in meters],
            [each.model for each in meters],
            [each.vc for each in meters],
        )
        self.connection.execute(
            "INSERT INTO price_class (type, model, vc) SELECT DISTINCT * FROM"
            " unnest(%s::text[], %s::text[], %s::text[])",
            columns,
        )
        self.connection.execute(
            """
            INSERT INTO meter (meter_id, meter_uid, bill_id, run_id, price_class_id, node_address,
                quota, group_quota, started_at, ingest_group_id)
            OVERRIDING SYSTEM VALUE
            SELECT said.meter_id, gen_random_uuid(), said.bill_id, run.run_id,
                class.price_class_id, '10.0.0.7', 1, 1, %s, 1
            FROM unnest(%s::bigint[], %s::uuid[], %s::text[], %s::text[], %s::text[])
                AS said (meter_id, bill_id, type, model, vc)
            JOIN run ON run.run_key = said.vc
            JOIN price_class AS class ON class.type = said.type AND class.vc = said.vc
                AND class.model IS NOT DISTINCT FROM said.model
            """,
            (
                FIRST_HOUR,
                [each.meter_id for each in meters],
                [each.bill_id for each in meters],
                *columns,
            ),
        )
        self._put_group([])  # the definitions

    def _put_group(self, records: Sequence[Record]) -> None:
        row = self.connection.execute(
            "INSERT INTO ingest_group (created_at, record_count, min_started_at, max_ended_at)"
            " VALUES (now(), %s, %s, %s) RETURNING ingest_group_id",
            (
                len(records),
                min((record.started_at for record in records), default=None),
                max((record.ended_at for record in records), default=None),
            ),
        ).fetchone()
        assert row is not None
        with self.connection.cursor().copy("COPY usage FROM STDIN") as copy:
            for record in records:
                copy.write_row((*astuple(record), row[0]))

    def _lines(self) -> dict[Key, Values]:
        rows = self.connection.execute(
            """
            SELECT CASE WHEN hour > %(now)s THEN %(now)s ELSE hour END, used_hour, kind, meter_id,
                ratio_id, min(started_at), max(ended_at), sum(allocated), sum(used),
                sum(effective), sum(billed), sum(length_ms), sum(observed_ms), sum(amount)
            FROM (SELECT hour, hour AS used_hour, 'charge' AS kind, meter_id, ratio_id,
                    started_at, ended_at, allocated, used, effective, billed, length_ms,
                    observed_ms, amount FROM charge
                UNION ALL SELECT hour, used_hour, kind, meter_id, ratio_id,
                    started_at, ended_at, allocated, used, effective, billed, length_ms,
                    observed_ms, amount FROM adjustment) AS line
            GROUP BY 1, 2, 3, 4, 5
            """,
            {"now": NOW},
        ).fetchall()
        return {row[:5]: row[5:] for row in rows}

    def _pairs(self, statement: LiteralString) -> dict[Values, Values]:
        """Rows by their first two columns."""
        return {row[:2]: row[2:] for row in self.connection.execute(statement)}

    def _spans(self, statement: LiteralString) -> dict[Values, Values]:
        """Rows by their first column."""
        return {row[:1]: row[1:] for row in self.connection.execute(statement)}

    def _days(self, source: LiteralString) -> dict[Values, Values]:
        """Of items, as the rollup has them, or as they follow from what was booked."""
        rows = self.connection.execute(
            SQL(
                """
                WITH booked AS (
                    SELECT date_trunc('day', hour, 'UTC') AS day, bill_id,
                        sum(allocated) AS allocated, sum(used) AS used,
                        sum(effective) AS effective, sum(billed) AS billed,
                        coalesce(sum(billed) FILTER (WHERE ratio_id = 0), 0) AS unpriced,
                        sum(length_ms) AS length_ms, sum(amount) AS amount, max(peak) AS peak
                    FROM booking GROUP BY 1, 2
                )
                SELECT day, bill_id, allocated, used, effective, billed, unpriced, length_ms,
                    amount, peak
                FROM {}
                """
            ).format(Identifier(source))
        ).fetchall()
        return {row[:2]: row[2:] for row in rows}

    def _bills(self) -> list[Bill]:
        rows = self.connection.execute(
            "SELECT bill_id, started_at, ended_at, allocated, used, effective, billed, unpriced,"
            " length_ms, observed_ms, amount, ratio_id, is_mixed FROM bill"
        ).fetchall()
        return [Bill(**dict(zip(Bill.__dataclass_fields__, row, strict=True))) for row in rows]

    def _account_hours(self) -> list[AccountHour]:
        rows = self.connection.execute(
            "SELECT hour, meter_id, allocated, used, effective, length_ms, observed_ms"
            " FROM node_account ORDER BY hour, meter_id"
        ).fetchall()
        names = AccountHour.__dataclass_fields__
        return [AccountHour(**dict(zip(names, row, strict=True))) for row in rows]


def _expected(lines: Iterable[Line]) -> dict[Key, Values]:
    """The model's lines, those of one key as one."""
    sums: dict[Key, list[Line]] = {}
    for line in lines:
        charge = line.charge
        key = (line.hour, charge.hour, line.kind, charge.meter_id, charge.ratio_id)
        sums.setdefault(key, []).append(line)
    return {key: _sum(same) for key, same in sums.items()}


def _sum(lines: Sequence[Line]) -> Values:
    charges = [line.charge for line in lines]
    return (
        min(charge.started_at for charge in charges),
        max(charge.ended_at for charge in charges),
        sum(charge.allocated for charge in charges),
        sum(charge.used for charge in charges),
        sum(charge.effective for charge in charges),
        sum(charge.billed for charge in charges),
        sum(charge.length_ms for charge in charges),
        sum(charge.observed_ms for charge in charges),
        reduce(EXACT.add, (charge.amount for charge in charges)),
    )


def _same(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise DifferenceError(f"{what}: {found!r}, where the model says {wanted!r}")


def _same_rows(what: str, found: Mapping[Row, Values], wanted: Mapping[Row, Values]) -> None:
    for key in sorted({*found, *wanted}, key=str):
        _same(f"{what} {key}", found.get(key), wanted.get(key))


async def play(url: str, seed: int, timelines: int) -> None:
    """Play the world of a seed on an emptied database. Raises DifferenceError, with the seed."""
    rating = await open_pool(url, role=Role.RATER, max_size=2)
    asking = await open_pool(url, role=Role.API, max_size=3)
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_FORGET)
            world = random_world(seed, timelines)
            database = Database(asking)
            await Player(world=world, connection=connection, pool=rating, database=database).play()
    except DifferenceError as difference:
        difference.add_note(f"seed {seed}, {timelines} timelines")
        raise
    finally:
        await rating.close()
        await asking.close()
