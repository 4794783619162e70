"""The SQL rater and the pure model say the same of any timeline, in any order and batching."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from uuid import UUID

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import TupleRow

from aggregator.metrics import Metrics
from aggregator.model import BillId, MeterId, Method, RatioId, ResourceType
from aggregator.rater import rate_pending
from aggregator.rating.rate import (
    Bill,
    Charge,
    Meter,
    MethodVersion,
    RatioVersion,
    Record,
    rate,
    total,
)
from aggregator.rating.ratio import RatioKey
from aggregator.store.pool import open_pool

START = datetime(2026, 2, 6, 22, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MINUTES = 150
TABLES = (
    b"usage", b"charge", b"bill", b"ingest_group", b"meter", b"price_class", b"run", b"node",
    b"ratio", b"method",
)  # fmt: skip
MODELS, VCS = (None, "A", "B"), ("v", "w")
FOREVER = START + timedelta(days=3650)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What was used, what it cost then, and how it arrived."""

    meters: dict[MeterId, Meter]
    records: list[Record]
    ratios: list[RatioVersion]
    methods: list[MethodVersion]
    groups: list[list[int]]
    """Which records came in which ingest group."""
    rounds: list[int]
    """How many groups had come before each rating."""
    max_records: int


def at(minute: int) -> datetime:
    """An instant of the timeline."""
    return START + minute * MINUTE


@st.composite
def meters(draw: st.DrawFn) -> dict[MeterId, Meter]:
    """Some meters of some items; the meters of an item are of one class."""
    classes = draw(
        st.lists(
            st.tuples(st.sampled_from(ResourceType), st.sampled_from(MODELS), st.sampled_from(VCS)),
            min_size=1,
            max_size=3,
        )
    )
    found: dict[MeterId, Meter] = {}
    for item, (type_, model, vc) in enumerate(classes, 1):
        for _ in range(draw(st.integers(1, 2))):
            number = MeterId(len(found) + 1)
            found[number] = Meter(
                meter_id=number, bill_id=BillId(UUID(int=item)), type=type_, model=model, vc=vc,
                started_at=START,
            )  # fmt: skip
    return found


QUANTITIES = st.one_of(st.integers(0, 1000), st.integers(0, 2**60))


@st.composite
def records(draw: st.DrawFn, meter_ids: Sequence[MeterId]) -> Record:
    """Part of a minute of a meter."""
    begin = draw(st.integers(0, 59_999))
    length = draw(st.integers(1, 60_000 - begin))
    started_at = at(draw(st.integers(0, MINUTES))) + timedelta(milliseconds=begin)
    return Record(
        meter_id=draw(st.sampled_from(meter_ids)),
        started_at=started_at,
        ended_at=started_at + timedelta(milliseconds=length),
        allocated=draw(QUANTITIES),
        used=draw(QUANTITIES),
        effective=draw(QUANTITIES),
        observed_ms=draw(st.integers(0, length)),
    )


@st.composite
def versions(draw: st.DrawFn) -> list[tuple[datetime, datetime | None]]:
    """Half-open ranges that do not overlap, on whole minutes, perhaps with gaps."""
    edges = sorted(draw(st.sets(st.integers(-10, MINUTES), max_size=5)))
    kept = [pair for pair in pairwise([*edges, MINUTES + 99]) if draw(st.integers(0, 3))]
    return [(at(first), None if last > MINUTES else at(last)) for first, last in kept]


@st.composite
def ratios(draw: st.DrawFn) -> list[RatioVersion]:
    """Versions of some keys."""
    found: list[RatioVersion] = []
    keys = [
        RatioKey(type=type_, model=model, vc=vc)
        for type_ in ResourceType
        for model in MODELS
        for vc in (None, *VCS)
    ]
    for key in draw(st.lists(st.sampled_from(keys), unique=True, max_size=12)):
        found += [
            RatioVersion(
                ratio_id=RatioId(len(found) + offset),
                key=key,
                value=draw(st.decimals(0, 100, places=7)),
                starts_at=starts_at,
                ends_at=ends_at,
            )
            for offset, (starts_at, ends_at) in enumerate(draw(versions()), 1)
        ]
    return found


@st.composite
def methods(draw: st.DrawFn) -> list[MethodVersion]:
    """For each type one method at any time."""
    found: list[MethodVersion] = []
    for type_ in ResourceType:
        edges = [None, *map(at, sorted(draw(st.sets(st.integers(0, MINUTES), max_size=1)))), None]
        found += [
            MethodVersion(
                type=type_, method=draw(st.sampled_from(Method)), starts_at=first, ends_at=last
            )
            for first, last in pairwise(edges)
        ]
    return found


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    """Any of it."""
    own = draw(meters())
    rows = draw(st.lists(records([*own]), max_size=25))
    order = draw(st.permutations(range(len(rows))))
    cuts = sorted(draw(st.sets(st.integers(0, len(rows)), max_size=6)))
    edges = [0, *cuts, len(rows)]
    groups = [order[first:last] for first, last in pairwise(edges)]
    return Timeline(
        meters=own,
        records=rows,
        ratios=draw(ratios()),
        methods=draw(methods()),
        groups=groups,
        rounds=draw(st.lists(st.integers(0, len(groups)), max_size=3)),
        max_records=draw(st.integers(1, 30)),
    )


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(timeline=timelines())
def test_the_sql_and_the_model_agree(database_url: str, timeline: Timeline) -> None:
    """To the last unit and the last digit, of every charge and every bill."""
    with psycopg.connect(database_url, autocommit=True) as database:
        reset(database, timeline)
        asyncio.run(play(database_url, database, timeline))
        charges = read_charges(database)
        bills = read_bills(database)
    expected = rate(timeline.records, timeline.meters, timeline.ratios, timeline.methods)
    assert charges == expected
    assert bills == total(expected, timeline.meters.values())


async def play(url: str, database: psycopg.Connection[TupleRow], timeline: Timeline) -> None:
    """Let the groups arrive, and rate after some of them and at the end."""
    pool = await open_pool(url, max_size=2)
    try:
        for number, group in enumerate(timeline.groups):
            if number in timeline.rounds:
                await rate_pending(pool, Metrics(), max_records=timeline.max_records)
            insert_group(database, timeline, group, number)
        await rate_pending(pool, Metrics(), max_records=timeline.max_records)
    finally:
        await pool.close()


def reset(database: psycopg.Connection[TupleRow], timeline: Timeline) -> None:
    """Empty the tables and put in what does not arrive by groups."""
    for table in TABLES:
        database.execute(b"DELETE FROM " + table)
    database.execute(
        "INSERT INTO node OVERRIDING SYSTEM VALUE"
        " VALUES (1, 'n', 'c', '::1', '', '', '', 1, 1, '', '[]', now(), now())"
    )
    database.execute(
        "INSERT INTO run OVERRIDING SYSTEM VALUE VALUES (1, 1, 'r', 'files', 'c', 'j', 'j',"
        " '00000000-0000-0000-0000-000000000000', NULL, 'v', '', '', 'job', now(), NULL)"
    )
    for ratio in timeline.ratios:
        assert ratio.key is not None
        database.execute(
            "INSERT INTO ratio (ratio_id, key, type, model, vc, value, starts_at, ends_at,"
            " created_at, created_by) OVERRIDING SYSTEM VALUE"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, now(), 'test')",
            (
                ratio.ratio_id, str(ratio.key), ratio.key.type.value, ratio.key.model,
                ratio.key.vc, ratio.value, ratio.starts_at, ratio.ends_at,
            ),
        )  # fmt: skip
    for method in timeline.methods:
        database.execute(
            "INSERT INTO method (type, method, starts_at, ends_at, created_at, created_by)"
            " VALUES (%s, %s, coalesce(%s, '-infinity'::timestamptz), %s, now(), 'test')",
            (method.type.value, method.method.value, method.starts_at, method.ends_at),
        )


def insert_group(
    database: psycopg.Connection[TupleRow], timeline: Timeline, group: list[int], number: int
) -> None:
    """One transaction of ingest; the first brings the meters."""
    rows = [timeline.records[place] for place in group]
    row = database.execute(
        "INSERT INTO ingest_group (created_at, record_count, min_started_at, max_ended_at)"
        " VALUES (now(), %s, %s, %s) RETURNING ingest_group_id",
        (
            len(rows),
            min((each.started_at for each in rows), default=None),
            max((each.ended_at for each in rows), default=None),
        ),
    ).fetchone()
    assert row is not None
    if number == 0:
        insert_meters(database, timeline, row[0])
    with database.cursor().copy(
        "COPY usage (meter_id, started_at, ended_at, allocated, used, effective, observed_ms,"
        " ingest_group_id) FROM STDIN"
    ) as copy:
        for each in rows:
            copy.write_row(
                (
                    each.meter_id, each.started_at, each.ended_at, each.allocated, each.used,
                    each.effective, each.observed_ms, row[0],
                )
            )  # fmt: skip


def insert_meters(
    database: psycopg.Connection[TupleRow], timeline: Timeline, group_id: int
) -> None:
    """Every meter and its price class."""
    for meter in timeline.meters.values():
        database.execute(
            "INSERT INTO price_class (type, model, vc) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            (meter.type.value, meter.model, meter.vc),
        )
        database.execute(
            "INSERT INTO meter (meter_id, meter_uid, bill_id, run_id, price_class_id,"
            " node_address, quota, group_quota, started_at, ingest_group_id)"
            " OVERRIDING SYSTEM VALUE"
            " SELECT %s, gen_random_uuid(), %s, 1, price_class_id, '::1', 1, 1, %s, %s"
            " FROM price_class WHERE type = %s AND model IS NOT DISTINCT FROM %s AND vc = %s",
            (
                meter.meter_id, meter.bill_id, meter.started_at, group_id, meter.type.value,
                meter.model, meter.vc,
            ),
        )  # fmt: skip


def read_charges(database: psycopg.Connection[TupleRow]) -> list[Charge]:
    """Every charge, in the model's order."""
    rows = database.execute(
        "SELECT hour, meter_id, ratio_id, bill_id, started_at, ended_at, allocated, used,"
        " effective, billed, length_ms, observed_ms, amount"
        " FROM charge ORDER BY hour, meter_id, ratio_id"
    ).fetchall()
    return [
        Charge(
            hour=row[0], meter_id=row[1], ratio_id=row[2], bill_id=row[3], started_at=row[4],
            ended_at=row[5], allocated=int(row[6]), used=int(row[7]), effective=int(row[8]),
            billed=int(row[9]), length_ms=row[10], observed_ms=row[11], amount=row[12],
        )
        for row in rows
    ]  # fmt: skip


def read_bills(database: psycopg.Connection[TupleRow]) -> dict[BillId, Bill]:
    """Every bill."""
    rows = database.execute(
        "SELECT bill_id, started_at, ended_at, allocated, used, effective, billed, unpriced,"
        " length_ms, observed_ms, amount, ratio_id, is_mixed FROM bill"
    ).fetchall()
    return {
        row[0]: Bill(
            bill_id=row[0], started_at=row[1], ended_at=row[2], allocated=int(row[3]),
            used=int(row[4]), effective=int(row[5]), billed=int(row[6]), unpriced=int(row[7]),
            length_ms=int(row[8]), observed_ms=int(row[9]), amount=Decimal(row[10]),
            ratio_id=row[11], is_mixed=row[12],
        )
        for row in rows
    }  # fmt: skip
