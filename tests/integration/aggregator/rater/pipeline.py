"""Usage in over the wire, bills out: what the tests of rating say in few words."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import psycopg
from psycopg.rows import TupleRow

from aggregator.clock import utc_now
from aggregator.ingest.server import IngestServer
from aggregator.metrics import Metrics
from aggregator.model import ResourceType
from aggregator.rater import rate_pending
from aggregator.rating.ratio import parse
from aggregator.store.pool import Pool
from aggregator.units import UNITS
from tests.integration.aggregator.agents import Spool, Use, deliver, records_of


def midnight(days_ago: int = 3) -> datetime:
    """The start of a day that can be rated."""
    today = datetime.combine(utc_now().date(), datetime.min.time(), tzinfo=UTC)
    return today - timedelta(days=days_ago)


@dataclass(frozen=True, slots=True, kw_only=True)
class Billed:
    """A bill, in unit-hours and money, exactly."""

    job_id: str
    type: ResourceType
    usage: Fraction
    fee: Fraction
    unpriced: Fraction
    is_mixed: bool
    ratio_id: int | None
    started_at: datetime
    ended_at: datetime


@dataclass(slots=True, kw_only=True)
class Pipeline:
    """One node that streams, and what becomes of it."""

    ingest: IngestServer
    pool: Pool
    api_pool: Pool
    metrics: Metrics
    database: psycopg.Connection[TupleRow]
    service_url: str
    spool: Spool = field(default_factory=Spool)

    def ratio(
        self,
        key: str,
        value: str,
        starts_at: datetime | None = None,
        ends_at: datetime | None = None,
    ) -> int:
        """Put a price in force; its id."""
        meaning = parse(key)
        row = self.database.execute(
            "INSERT INTO ratio (key, type, model, vc, value, starts_at, ends_at, created_at,"
            " created_by) VALUES (%s, %s, %s, %s, %s, %s, %s, now(), 'test') RETURNING ratio_id",
            (
                key,
                meaning and meaning.type.value,
                meaning and meaning.model,
                meaning and meaning.vc,
                Decimal(value),
                starts_at or midnight(60),
                ends_at,
            ),
        ).fetchone()
        assert row is not None
        return int(row[0])

    def use(
        self,
        start: datetime,
        end: datetime,
        allocated: int,
        *,
        used: int | None = None,
        job_id: str = "job-1",
        type_: str = "cpu",
        model: str | None = None,
        vc: str = "vc1",
        run: int | None = None,
    ) -> Use:
        """A meter of its own that runs from one instant to another."""
        number = run or self.spool.run(job_id, started_at=start, vc=vc)
        device = "GPU-1" if type_ in {"gpu", "npu"} else None
        meter = self.spool.meter(
            number, type_, quota=allocated, started_at=start, model=model, device=device
        )
        return Use(meter=meter, start=start, end=end, allocated=allocated, used=used)

    async def send(self, *uses: Use) -> None:
        """Stream records, in one batch."""
        batch = self.spool.batch(records_of(*uses) if uses else None)
        await deliver(self.ingest.port, self.spool, [batch])

    async def rate(self, *, max_records: int = 500_000) -> int:
        """Rate all that can be rated."""
        return await rate_pending(self.pool, self.metrics, max_records=max_records)

    async def bill(self, *uses: Use) -> list[Billed]:
        """Stream, rate, and give the bills in the order of their jobs and starts."""
        await self.send(*uses)
        await self.rate()
        return self.bills()

    def bills(self) -> list[Billed]:
        """Every bill."""
        rows = self.database.execute(
            "SELECT job_id, type, billed, amount, unpriced, is_mixed, ratio_id, started_at,"
            " ended_at FROM bill ORDER BY job_id, started_at, type, bill_id"
        ).fetchall()
        return [_billed(row) for row in rows]

    def charges(self) -> Sequence[TupleRow]:
        """Hour, ratio, start, end, billed."""
        return self.database.execute(
            "SELECT hour, ratio_id, started_at, ended_at, billed FROM charge"
            " ORDER BY hour, started_at, meter_id, ratio_id"
        ).fetchall()


def _billed(row: TupleRow) -> Billed:
    job_id, type_, billed, amount, unpriced, is_mixed, ratio_id, started_at, ended_at = row
    unit_hour = UNITS[ResourceType(type_)].unit_hour
    return Billed(
        job_id=job_id,
        type=ResourceType(type_),
        usage=Fraction(billed) / unit_hour,
        fee=Fraction(amount) / unit_hour,
        unpriced=Fraction(unpriced) / unit_hour,
        is_mixed=is_mixed,
        ratio_id=ratio_id,
        started_at=started_at,
        ended_at=ended_at,
    )
