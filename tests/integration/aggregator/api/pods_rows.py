"""Charges of jobs as the rater leaves them: by the hour, and rolled up by the day."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from aggregator.model import NO_USER
from aggregator.units import UNITS
from tests.integration.aggregator.rows import NOON, Rows

HOUR = timedelta(hours=1)
HOUR_MS = 3_600_000


@dataclass(slots=True)
class Charges:
    """Lays down items and what they are charged; `roll_up` makes the days of it."""

    rows: Rows
    _meters: dict[UUID, int] = field(default_factory=dict[UUID, int])

    def item(
        self,
        job_id: str,
        type_: str = "gpu",
        *,
        model: str | None = None,
        quota: int = 1,
        run_id: int | None = None,
        kind: str = "job",
        cluster: str = "c1",
        node: str = "10.0.0.7",
        vc: str = "vc1",
        namespace: str = "",
        user_id: UUID = NO_USER,
    ) -> UUID:
        """An item without charges, of a run of its own or of one; `quota` in API units."""
        base_units = quota * UNITS[type_].base_units
        bill_id = self.rows.bill(
            job_id, type_=type_, model=model, quota=base_units, vc=vc, node=node
        )
        self.rows.connection.execute(
            """
            UPDATE bill SET kind = %s, cluster = %s, namespace = %s, user_id = %s,
                run_id = coalesce(%s, run_id)
            WHERE bill_id = %s
            """,
            (kind, cluster, namespace, user_id, run_id, bill_id),
        )
        return bill_id

    def run_of(self, bill_id: UUID) -> int:
        """The run of an item."""
        row = self.rows.connection.execute(
            "SELECT run_id FROM bill WHERE bill_id = %s", (bill_id,)
        ).fetchone()
        assert row is not None
        return int(row[0])

    def charge(
        self,
        bill_id: UUID,
        fee: str | Decimal | int = 0,
        *,
        at: datetime = NOON,
        ms: int = HOUR_MS,
        peak: int = 0,
    ) -> None:
        """`ms` of an hour that cost `fee`."""
        self.rows.connection.execute(
            """
            INSERT INTO charge
            SELECT %(at)s, %(meter)s, 0, bill_id, %(at)s, %(at)s + %(ms)s * interval '1 ms',
                quota * %(ms)s, 0, quota * %(ms)s, quota * %(ms)s, %(ms)s, %(ms)s,
                %(fee)s * (%(units)s::jsonb ->> type)::numeric, %(peak)s
            FROM bill WHERE bill_id = %(bill)s
            """,
            self._values(bill_id, at, ms, fee, peak),
        )

    def adjust(
        self,
        bill_id: UUID,
        fee: str | Decimal | int,
        *,
        at: datetime = NOON,
        used: datetime | None = None,
        ms: int = 0,
    ) -> None:
        """A line that was booked in an hour for an earlier one, without time of its own."""
        self.rows.connection.execute(
            """
            INSERT INTO adjustment (hour, used_hour, meter_id, ratio_id, bill_id, kind, booked_at,
                started_at, ended_at, allocated, used, effective, billed, length_ms,
                observed_ms, amount)
            SELECT %(at)s, %(used)s, %(meter)s, 0, bill_id, 'late', %(at)s, %(used)s, %(used)s,
                quota * %(ms)s, 0, 0, 0, %(ms)s, 0, %(fee)s * (%(units)s::jsonb ->> type)::numeric
            FROM bill WHERE bill_id = %(bill)s
            """,
            self._values(bill_id, at, ms, fee, 0) | {"used": used or at - timedelta(days=40)},
        )

    def roll_up(self) -> None:
        """The days and the classes, as the migrations that brought them made them."""
        self.rows.connection.execute("TRUNCATE daily, daily_class, item_class")
        self.rows.connection.execute(_ROLL_UP)

    def clear(self) -> None:
        """Nothing was metered."""
        self.rows.connection.execute(
            "TRUNCATE bill, charge, adjustment, daily, daily_class, item_class, meter, run"
        )

    def _values(
        self, bill_id: UUID, at: datetime, ms: int, fee: str | Decimal | int, peak: int
    ) -> dict[str, object]:
        return {
            "at": at,
            "ms": ms,
            "fee": Decimal(fee),
            "units": _UNIT_HOURS,
            "peak": peak,
            "meter": self._meter(bill_id),
            "bill": bill_id,
        }

    def _meter(self, bill_id: UUID) -> int:
        if bill_id not in self._meters:
            row = self.rows.connection.execute(
                """
                WITH class AS (
                    INSERT INTO price_class (type, model, vc)
                    SELECT type, model, vc FROM bill WHERE bill_id = %(bill)s
                    ON CONFLICT (type, model, vc) DO UPDATE SET vc = excluded.vc
                    RETURNING price_class_id
                )
                INSERT INTO meter (meter_uid, bill_id, run_id, price_class_id, node_address,
                    quota, group_quota, started_at, ingest_group_id)
                SELECT gen_random_uuid(), bill_id, run_id, price_class_id, node, quota, quota,
                    started_at, 1
                FROM bill, class WHERE bill_id = %(bill)s RETURNING meter_id
                """,
                {"bill": bill_id},
            ).fetchone()
            assert row is not None
            self._meters[bill_id] = int(row[0])
        return self._meters[bill_id]


_UNIT_HOURS = "{" + ", ".join(f'"{name}": {unit.unit_hour}' for name, unit in UNITS.items()) + "}"
_ROLL_UP = """
    INSERT INTO daily (day, bill_id, allocated, used, effective, billed, unpriced, length_ms,
        amount, peak)
    SELECT date_trunc('day', hour, 'UTC'), bill_id, sum(allocated), sum(used), sum(effective),
        sum(billed), 0, sum(length_ms), sum(amount), max(peak)
    FROM booking GROUP BY 1, 2;
    UPDATE bill SET first_day = counted.first_day, last_day = counted.last_day
    FROM (SELECT bill_id, min(day) AS first_day, max(day) AS last_day FROM daily GROUP BY 1)
        AS counted
    WHERE bill.bill_id = counted.bill_id;
    INSERT INTO item_class (cluster, vc, project, namespace, kind, type, model, quota, gpu)
    SELECT cluster, vc, project, namespace, kind, type, model,
        CASE WHEN type IN ('gpu', 'npu') THEN quota ELSE 0 END, bill_id::text
    FROM bill;
    UPDATE bill SET item_class_id = class.item_class_id
    FROM item_class AS class WHERE class.gpu = bill_id::text;
    UPDATE item_class SET gpu = CASE WHEN bill.type <> 'storage' THEN pod.gpu END
    FROM bill LEFT JOIN (
        SELECT cluster, job_id, CASE min(coalesce(model, type)) WHEN max(coalesce(model, type))
            THEN min(coalesce(model, type)) END AS gpu
        FROM bill WHERE type IN ('gpu', 'npu') GROUP BY 1, 2
    ) AS pod USING (cluster, job_id)
    WHERE item_class.item_class_id = bill.item_class_id;
    INSERT INTO daily_class
    SELECT daily.day, bill.item_class_id, sum(daily.allocated), sum(daily.used),
        sum(daily.effective), sum(daily.billed), sum(daily.unpriced), sum(daily.length_ms),
        sum(daily.amount)
    FROM daily JOIN bill USING (bill_id) GROUP BY 1, 2
"""
