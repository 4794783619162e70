"""The claim that the SQL rater and the pure model state the same rules.

Random timelines of usage, prices and methods are rated by both, the SQL one in random
groups and rounds; every charge, every bill and every account must be equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid5

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg.rows import TupleRow

from aggregator.metrics import Metrics
from aggregator.model import NAMESPACE, BillId, MeterId, Method, RatioId, ResourceType
from aggregator.rater import rate_pending
from aggregator.rating.rate import (
    AccountHour,
    Bill,
    Charge,
    Meter,
    MethodVersion,
    RatioVersion,
    Record,
    account_hours,
    rate,
    total,
)
from aggregator.rating.ratio import parse
from aggregator.store.grants import Role
from aggregator.store.pool import open_pool
from tests.integration.aggregator.rows import Rows

START = datetime(2026, 2, 6, 22, 30, tzinfo=UTC)
MINUTES = st.sampled_from([0, 28, 29, 30, 31, 88, 89, 90, 91])  # about 23:00 and midnight
ACCOUNTS = [MeterId(-1), MeterId(-2)]
TYPES = [ResourceType.CPU, ResourceType.MEM, ResourceType.GPU]
KEYS = [
    "cpu", "mem", "gpu", "gpu:A", "gpu:B", "gpu@v1", "cpu@v1", "cpu:A@v2", "gpu:A@v1", "tokens",
]  # fmt: skip
VALUES = st.sampled_from(["0", "0", "1", "0.1", "2.5", "0.0009765625", "123456789.123456789"])
QUANTITIES = st.integers(0, 10**6) | st.sampled_from([10**13, 2**62 // 200])


def minute(number: int) -> datetime:
    """The n-th minute of the timeline."""
    return START + timedelta(minutes=number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What both raters are given; the records in groups, rated after each round of groups."""

    meters: Sequence[Meter]
    ratios: Sequence[RatioVersion]
    keys: Sequence[str]
    methods: Sequence[MethodVersion]
    rounds: Sequence[Sequence[Sequence[Record]]]


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    """Any timeline of at most three meters and two hours."""
    meters = [_meter(draw, number) for number in range(1, draw(st.integers(1, 3)) + 1)]
    ratios: list[RatioVersion] = []
    keys: list[str] = []
    for key in draw(st.lists(st.sampled_from(KEYS), unique=True, min_size=1, max_size=6)):
        for version in _versions(draw, key, first=len(ratios) + 1):
            ratios.append(version)
            keys.append(key)
    methods = [version for kind in ResourceType for version in _methods(draw, kind)]
    meter_ids = [*(meter.meter_id for meter in meters), *ACCOUNTS]
    rounds = draw(
        st.lists(
            st.lists(st.lists(_records(meter_ids), max_size=8), min_size=1, max_size=3),
            min_size=1,
            max_size=3,
        )
    )
    return Timeline(meters=meters, ratios=ratios, keys=keys, methods=methods, rounds=rounds)


def _meter(draw: st.DrawFn, number: int) -> Meter:
    kind = draw(st.sampled_from(TYPES))
    model = None if kind is ResourceType.MEM else draw(st.sampled_from(["A", "B"]))
    vc = draw(st.sampled_from(["v1", "v2"]))
    item = draw(st.integers(1, 2))  # meters of one class may share an item
    bill_id = BillId(uuid5(NAMESPACE, f"{kind}{model}{vc}{item}"))
    return Meter(
        meter_id=MeterId(number), bill_id=bill_id, type=kind, model=model, vc=vc, started_at=START
    )


def _cuts(draw: st.DrawFn) -> list[int]:
    return sorted(draw(st.lists(MINUTES, unique=True, min_size=1, max_size=4)))


def _versions(draw: st.DrawFn, key: str, first: int) -> list[RatioVersion]:
    cuts = _cuts(draw)
    ends: list[int | None] = [*cuts[1:], None]
    versions: list[RatioVersion] = []
    for number, (start, until) in enumerate(zip(cuts, ends, strict=True), start=first):
        kind = draw(st.sampled_from(["full", "full", "short", "empty"]))
        end = {"full": until, "short": start + 1, "empty": start}[kind]
        versions.append(
            RatioVersion(
                ratio_id=RatioId(number),
                key=parse(key),
                value=Decimal(draw(VALUES)),
                starts_at=minute(start),
                ends_at=None if end is None else minute(end),
            )
        )
    return versions


def _methods(draw: st.DrawFn, kind: ResourceType) -> list[MethodVersion]:
    cuts = _cuts(draw) if draw(st.booleans()) else []
    starts = [None, *map(minute, cuts)]
    ends = [*map(minute, cuts), None]
    return [
        MethodVersion(type=kind, method=draw(st.sampled_from(Method)), starts_at=start, ends_at=end)
        for start, end in zip(starts, ends, strict=True)
    ]


def _records(meter_ids: Sequence[MeterId]) -> st.SearchStrategy[Record]:
    @st.composite
    def record(draw: st.DrawFn) -> Record:
        start = draw(st.just(0) | st.integers(0, 59_999))
        length = draw(st.just(60_000 - start) | st.integers(1, 60_000 - start))
        at = minute(draw(MINUTES)) + timedelta(milliseconds=start)
        return Record(
            meter_id=draw(st.sampled_from(meter_ids)),
            started_at=at,
            ended_at=at + timedelta(milliseconds=length),
            allocated=draw(QUANTITIES),
            used=draw(QUANTITIES),
            effective=draw(QUANTITIES),
            observed_ms=draw(st.integers(0, length)),
        )

    return record()


@settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(timeline=timelines())
@pytest.mark.timeout(300)
async def test_the_rater_and_the_model_give_the_same_bills(
    service_url: str, rows: Rows, timeline: Timeline
) -> None:
    """Whatever is used when, priced how, and in whatever order it arrives."""
    database = rows.connection
    _forget(database)
    _put_prices(database, timeline)
    _put_meters(rows, timeline)
    pool = await open_pool(service_url, role=Role.RATER)
    try:
        _put_group(database, [])  # the definitions
        for groups in timeline.rounds:
            for records in groups:
                _put_group(database, records)
            await rate_pending(pool, Metrics())
        await rate_pending(pool, Metrics())
    finally:
        await pool.close()
    records = [record for groups in timeline.rounds for group in groups for record in group]
    meters = {meter.meter_id: meter for meter in timeline.meters}
    of_jobs = [record for record in records if record.meter_id not in ACCOUNTS]
    of_nodes = [record for record in records if record.meter_id in ACCOUNTS]
    charges = rate(of_jobs, meters, timeline.ratios, timeline.methods)
    assert _charges(database) == charges
    assert _bills(database) == total(charges, timeline.meters)
    assert _account_hours(database) == account_hours(of_nodes)


def _forget(database: psycopg.Connection[TupleRow]) -> None:
    database.execute(
        "TRUNCATE usage, charge, bill, meter, price_class, run, node, node_meter, "
        "node_account, ingest_group, ratio, method, stream, batch, stream_gap, quarantine, "
        "claim, claim_floor "
        "RESTART IDENTITY"
    )


def _put_prices(database: psycopg.Connection[TupleRow], timeline: Timeline) -> None:
    for version, key in zip(timeline.ratios, timeline.keys, strict=True):
        meaning = version.key
        database.execute(
            """
            INSERT INTO ratio (key, type, model, vc, value, starts_at, ends_at, created_at,
                created_by)
            VALUES (%s, %s, %s, %s, %s, %s, %s, now(), 'test')
            """,
            (
                key,
                meaning and meaning.type,
                meaning and meaning.model,
                meaning and meaning.vc,
                version.value,
                version.starts_at,
                version.ends_at,
            ),
        )
    for method in timeline.methods:
        database.execute(
            """
            INSERT INTO method (type, method, starts_at, ends_at, created_at, created_by)
            VALUES (%s, %s, coalesce(%s::timestamptz, '-infinity'), %s, now(), 'test')
            """,
            (method.type, method.method, method.starts_at, method.ends_at),
        )


def _put_meters(rows: Rows, timeline: Timeline) -> None:
    run_id = rows.run("job-1")
    rows.connection.execute(
        "INSERT INTO node_meter (node_id, account, type) SELECT node_id, account, 'cpu'"
        " FROM node, unnest(ARRAY['capacity', 'idle']) AS account"
    )
    for meter in timeline.meters:
        rows.connection.execute(
            """
            WITH class AS (
                INSERT INTO price_class (type, model, vc) VALUES (%(type)s, %(model)s, %(vc)s)
                ON CONFLICT (type, model, vc) DO UPDATE SET type = excluded.type
                RETURNING price_class_id
            )
            INSERT INTO meter (meter_uid, bill_id, run_id, price_class_id, node_address, quota,
                group_quota, started_at, ingest_group_id)
            SELECT gen_random_uuid(), %(bill_id)s, %(run_id)s, price_class_id, '10.0.0.7', 1, 1,
                %(started_at)s, 1
            FROM class
            """,
            {
                "type": meter.type,
                "model": meter.model,
                "vc": meter.vc,
                "bill_id": meter.bill_id,
                "run_id": run_id,
                "started_at": meter.started_at,
            },
        )


def _put_group(database: psycopg.Connection[TupleRow], records: Sequence[Record]) -> None:
    row = database.execute(
        """
        INSERT INTO ingest_group (created_at, record_count, min_started_at, max_ended_at)
        VALUES (now(), %s, %s, %s) RETURNING ingest_group_id
        """,
        (
            len(records),
            min((record.started_at for record in records), default=None),
            max((record.ended_at for record in records), default=None),
        ),
    ).fetchone()
    assert row is not None
    for record in records:
        database.execute(
            "INSERT INTO usage VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            (
                record.meter_id,
                record.started_at,
                record.ended_at,
                record.allocated,
                record.used,
                record.effective,
                record.observed_ms,
                row[0],
            ),
        )


def _charges(database: psycopg.Connection[TupleRow]) -> list[Charge]:
    found = database.execute(
        """
        SELECT hour, meter_id, ratio_id, bill_id, started_at, ended_at, allocated, used,
            effective, billed, length_ms, observed_ms, amount
        FROM charge ORDER BY hour, meter_id, ratio_id
        """
    ).fetchall()
    names = list(Charge.__dataclass_fields__)
    return [Charge(**dict(zip(names, row, strict=True))) for row in found]


def _account_hours(database: psycopg.Connection[TupleRow]) -> list[AccountHour]:
    found = database.execute(
        """
        SELECT hour, meter_id, allocated, used, effective, length_ms, observed_ms
        FROM node_account ORDER BY hour, meter_id
        """
    ).fetchall()
    names = list(AccountHour.__dataclass_fields__)
    return [AccountHour(**dict(zip(names, row, strict=True))) for row in found]


def _bills(database: psycopg.Connection[TupleRow]) -> dict[BillId, Bill]:
    found = database.execute(
        """
        SELECT bill_id, started_at, ended_at, allocated, used, effective, billed, unpriced,
            length_ms, observed_ms, amount, ratio_id, is_mixed
        FROM bill
        """
    ).fetchall()
    names = list(Bill.__dataclass_fields__)
    bills = [Bill(**dict(zip(names, row, strict=True))) for row in found]
    return {bill.bill_id: bill for bill in bills}
