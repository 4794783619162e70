"""Rows as ingest and the rater leave them, for tests that need neither to run."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from aggregator.model import NO_USER

NOON = datetime(2026, 2, 6, 12, tzinfo=UTC)
"""When the rows' jobs start unless a test says otherwise."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Inserts rows, each complete by itself; autocommits."""

    connection: psycopg.Connection[TupleRow]

    def node(self, name: str = "n1", *, silent: timedelta = timedelta(0)) -> int:
        """A node that last spoke `silent` ago; its number."""
        return self._number(
            """
            INSERT INTO node (name, cluster, address, boot_id, machine_id, agent_version,
                cpu_m, mem_kib, cpu_model, devices, first_seen_at, last_seen_at)
            VALUES (%s, 'c1', '10.0.0.7', 'b', 'm', '0.1.0', 8000, 16777216, 'EPYC', %s,
                %s, now() - %s)
            ON CONFLICT (name) DO UPDATE SET last_seen_at = excluded.last_seen_at
            RETURNING node_id
            """,
            name,
            Jsonb([{"type": "gpu", "id": "GPU-1", "model": "NVIDIA H200"}]),
            NOON,
            silent,
        )

    def run(
        self,
        job_id: str,
        *,
        node_id: int | None = None,
        is_live: bool = False,
        user_id: UUID = NO_USER,
        vc: str = "vc1",
        project: str = "p1",
    ) -> int:
        """A run of a job of cluster c1, rated to its end unless it lives; its number."""
        ended_at = None if is_live else NOON + timedelta(hours=1)
        return self._number(
            """
            INSERT INTO run (node_id, run_key, provider, cluster, job_id, job_name, user_id,
                vc, project, namespace, kind, started_at, ended_at, settled_at)
            VALUES (%s, %s, 'files', 'c1', %s, 'name', %s, %s, %s, '', 'job', %s, %s, %s)
            RETURNING run_id
            """,
            node_id or self.node(),
            str(uuid4()),
            job_id,
            user_id,
            vc,
            project,
            NOON,
            ended_at,
            ended_at,
        )

    def bill(
        self,
        job_id: str = "job-1",
        *,
        billed: int = 0,
        unpriced: int = 0,
        amount: Decimal = Decimal(0),
        ratio_id: int | None = None,
        is_mixed: bool = False,
        quota: int = 500,
        type_: str = "cpu",
        model: str | None = None,
        vc: str = "vc1",
        project: str = "p1",
        cluster: str = "c1",
        namespace: str = "ns1",
        kind: str = "job",
        node: str = "10.0.0.7",
        job_name: str = "name",
        user_id: UUID = NO_USER,
        username: str | None = None,
        started_at: datetime = NOON,
        ended_at: datetime | None = None,
        is_live: bool = False,
        node_id: int | None = None,
        observed_ms: int = 0,
        length_ms: int = 0,
    ) -> UUID:
        """An item with a run and a class of its own; its id."""
        bill_id = uuid4()
        class_id = self._number(
            """
            INSERT INTO item_class (cluster, vc, project, namespace, kind, type, model, quota)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING item_class_id
            """,
            cluster, vc, project, namespace, kind, type_, model,
            quota if type_ in {"gpu", "npu"} else 0,
        )  # fmt: skip
        run_id = self.run(
            job_id, is_live=is_live, node_id=node_id, user_id=user_id, vc=vc, project=project
        )
        self.connection.execute(
            """
            INSERT INTO bill VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,
                %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, DEFAULT, %s)
            """,
            (
                bill_id, run_id, cluster, node, job_id, job_name, user_id, username, vc,
                project, namespace, kind, type_, model, quota, started_at, ended_at or started_at,
                billed, billed // 2, billed, billed, unpriced, length_ms, observed_ms,
                amount, ratio_id, is_mixed, class_id,
            ),
        )  # fmt: skip
        return bill_id

    def daily(
        self,
        bill_id: UUID,
        day: date,
        *,
        allocated: int = 0,
        used: int = 0,
        effective: int = 0,
        billed: int | None = None,
        unpriced: int = 0,
        amount: Decimal = Decimal(0),
        length_ms: int = 3_600_000,
        peak: int = 0,
    ) -> None:
        """What counts of an item on a UTC day; billed is effective unless it is said."""
        self.connection.execute(
            """
            WITH counted AS (
                INSERT INTO daily (day, bill_id, allocated, used, effective, billed, unpriced,
                    length_ms, amount, peak)
                VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
                RETURNING *
            ),
            billed AS (
                UPDATE bill SET first_day = least(first_day, counted.day),
                    last_day = greatest(last_day, counted.day)
                FROM counted WHERE bill.bill_id = counted.bill_id
            )
            INSERT INTO daily_class
            SELECT day, item_class_id, counted.allocated, counted.used, counted.effective,
                counted.billed, counted.unpriced, counted.length_ms, counted.amount
            FROM counted JOIN bill USING (bill_id)
            """,
            (
                datetime.combine(day, time.min, tzinfo=UTC), bill_id, allocated, used, effective,
                effective if billed is None else billed, unpriced, length_ms, amount, peak,
            ),
        )  # fmt: skip

    def charge(
        self,
        bill_id: UUID,
        *,
        billed: int = 0,
        amount: Decimal = Decimal(0),
        ratio_id: int = 0,
        hour: datetime = NOON,
        started_at: datetime | None = None,
        meter_id: int | None = None,
    ) -> None:
        """What a meter of an item comes to in an hour; its own meter unless one is named."""
        start = started_at or hour
        meter = meter_id or self.meter(bill_id)
        self.connection.execute(
            """
            INSERT INTO charge VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            """,
            (
                hour, meter, ratio_id, bill_id, start, hour + timedelta(hours=1), billed,
                billed // 2, billed, billed, 3_600_000, 3_600_000, amount,
            ),
        )  # fmt: skip

    def meter(self, bill_id: UUID) -> int:
        """A meter of an item; its number."""
        self.connection.execute(
            """
            INSERT INTO price_class (type, model, vc) SELECT type, model, vc FROM bill
            WHERE bill_id = %s ON CONFLICT DO NOTHING
            """,
            (bill_id,),
        )
        return self._number(
            """
            INSERT INTO meter (meter_uid, bill_id, run_id, price_class_id, node_address, quota,
                group_quota, started_at, ingest_group_id)
            SELECT gen_random_uuid(), bill.bill_id, bill.run_id, class.price_class_id, bill.node,
                bill.quota, bill.quota, bill.started_at, 1
            FROM bill JOIN price_class AS class
                ON (class.type, class.vc) = (bill.type, bill.vc)
                AND class.model IS NOT DISTINCT FROM bill.model
            WHERE bill.bill_id = %s
            RETURNING meter_id
            """,
            bill_id,
        )

    def seal(self, until: datetime) -> None:
        """Seal all hours before an instant."""
        self.connection.execute("INSERT INTO seal VALUES (%s, now())", (until,))

    def adjustment(self, bill_id: UUID, *, billed: int, hour: datetime = NOON) -> None:
        """What was booked for late usage of an item, a month before; it has no price."""
        used_hour = hour - timedelta(days=31)
        self.connection.execute(
            """
            INSERT INTO adjustment (hour, used_hour, meter_id, ratio_id, bill_id, kind, booked_at,
                started_at, ended_at, allocated, used, effective, billed, length_ms,
                observed_ms, amount)
            VALUES (%s, %s, 1, 0, %s, 'late', %s, %s, %s, %s, 0, %s, %s, 3600000, 0, 0)
            """,
            (hour, used_hour, bill_id, hour, used_hour, hour, billed, billed, billed),
        )

    def rerate(self) -> None:
        """An order to rate an hour again that has not begun."""
        self.connection.execute(
            """
            WITH ordered AS (
                INSERT INTO rerate (starts_at, ends_at, reason, created_at, created_by,
                    last_meter_id)
                VALUES (%s, %s, 'test', now(), 'test', 1) RETURNING rerate_id
            )
            INSERT INTO rerate_progress SELECT rerate_id, 0, 0, 0, now() FROM ordered
            """,
            (NOON, NOON + timedelta(hours=1)),
        )

    def account(
        self,
        node_id: int,
        account: str,
        amount: int,
        *,
        hour: datetime = NOON,
        type_: str = "gpu",
        device: str | None = "GPU-1",
    ) -> None:
        """What a node accounts for in an hour, in base unit x ms."""
        allocated, used = (0, amount) if device is None else (amount, 0)
        self.connection.execute(
            """
            WITH meter AS (
                INSERT INTO node_meter (node_id, account, type, device) VALUES (%s, %s, %s, %s)
                RETURNING meter_id
            )
            INSERT INTO node_account
            SELECT %s, meter_id, %s, %s, %s, 3600000, 3600000 FROM meter
            """,
            (node_id, account, type_, device, hour, allocated, used, amount),
        )

    def user(self, username: str | None, user_id: UUID) -> None:
        """A user of cluster c1."""
        self.connection.execute(
            "INSERT INTO billing_user VALUES (%s, %s, 'c1', %s)", (user_id, username, NOON)
        )

    def price_class(self, type_: str, model: str | None = None, vc: str = "vc1") -> None:
        """A class of usage that was metered."""
        self.connection.execute(
            "INSERT INTO price_class (type, model, vc) VALUES (%s, %s, %s)", (type_, model, vc)
        )

    def ratio(
        self,
        key: str,
        value: str,
        *,
        starts_at: datetime = NOON,
        ends_at: datetime | None = None,
    ) -> int:
        """A version of a ratio that matches its key's plain type; its number."""
        return self._number(
            """
            INSERT INTO ratio (key, type, value, starts_at, ends_at, created_at, created_by)
            VALUES (%s, %s, %s, %s, %s, %s, 'test') RETURNING ratio_id
            """,
            key,
            key,
            Decimal(value),
            starts_at,
            ends_at,
            starts_at,
        )

    def _number(self, statement: str, *values: object) -> int:
        row = self.connection.execute(statement.encode(), values).fetchone()
        assert row is not None
        return int(row[0])
