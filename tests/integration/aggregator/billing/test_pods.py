"""Claims about the sums of the Pods API, before anything is rounded, against a model of them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from aggregator.billing.database import Database
from aggregator.billing.pods import Asked, Of, Record, list_records
from aggregator.billing.scope import EVERYTHING, Scope
from aggregator.model import NO_USER
from aggregator.rating.bucket import Bucket, floor
from aggregator.rating.money import split
from aggregator.units import COMMON, UNITS
from tests.integration.aggregator.api.pods_rows import HOUR, HOUR_MS, Charges
from tests.integration.aggregator.rows import Rows

FIRST = datetime(2026, 1, 30, tzinfo=UTC)
HOURS = 96
DEVICES = ("gpu", "npu")


@dataclass(frozen=True, slots=True)
class Thing:
    """An item of a pod."""

    pod: str
    type: str
    model: str | None
    quota: int

    @property
    def group(self) -> str | None:
        """The model by which it is grouped, if it is a device."""
        return (self.model or self.type) if self.type in DEVICES else None


@dataclass(frozen=True, slots=True)
class Line:
    """What an hour of a thing was charged; without time it was booked later."""

    thing: Thing
    hour: int
    fee: Decimal
    ms: int

    @property
    def at(self) -> datetime:
        """Its hour."""
        return FIRST + self.hour * HOUR

    @property
    def device_ms(self) -> int:
        """Base units x ms of a device."""
        base_units = UNITS[self.thing.type].base_units
        return self.thing.quota * base_units * self.ms if self.thing.group else 0


THINGS = st.builds(
    Thing,
    st.sampled_from(["p1", "p2", "p3"]),
    st.sampled_from(["cpu", "mem", "gpu", "gpu", "npu", "storage"]),
    st.sampled_from([None, "A", "B", "C"]),
    st.sampled_from([0, 1, 3, 7]),
)
LINES = st.builds(
    Line,
    THINGS,
    st.integers(0, HOURS - 1),
    st.decimals("-5", "100", places=7),
    st.sampled_from([0, 1, 60_000, 1_234_567, HOUR_MS]),
)


@settings(
    max_examples=30,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    lines=st.lists(LINES, max_size=25, unique_by=lambda line: (line.thing, line.hour)),
    bucket=st.sampled_from(["hour", "day", "week", "month", "year"]),
)
@pytest.mark.timeout(300)
async def test_sums_are_exactly_those_of_the_model(
    database: Database, rows: Rows, lines: Sequence[Line], bucket: Bucket
) -> None:
    """Whatever is charged when: by pod, by model, and all groups and buckets together."""
    lay(Charges(rows), lines)
    found = await sums(database, "models", bucket)
    assert without_zeros(found) == without_zeros(by_model(lines, bucket))
    whole = sum((line.fee for line in lines if counts(line, lines)), Decimal(0))
    assert sum(found.values()) == whole * COMMON.unit_hour
    by_pod: dict[tuple[datetime, str], Decimal] = defaultdict(Decimal)
    for line in lines:
        by_pod[floor(line.at, bucket), line.thing.pod] += line.fee * COMMON.unit_hour
    assert await sums(database, "pods", bucket) == by_pod


@settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    lines=st.lists(LINES, max_size=25, unique_by=lambda line: (line.thing, line.hour)),
    labels=st.lists(st.sampled_from(["as made", "A", "B", None]), min_size=1, max_size=4),
    gpu=st.sampled_from([None, "A"]),
)
@pytest.mark.timeout(300)
async def test_what_a_class_is_known_by_changes_no_figure(
    database: Database,
    rows: Rows,
    lines: Sequence[Line],
    labels: Sequence[str | None],
    gpu: str | None,
) -> None:
    """By classes of items as by items, day by day: a class may be wrong of what came later."""
    lay(Charges(rows), lines)
    rows.connection.execute(
        """
        UPDATE item_class SET gpu = nullif(said.label, '')
        FROM unnest(%(labels)s::text[]) WITH ORDINALITY AS said (label, place)
        WHERE said.place = 1 + item_class_id %% cardinality(%(labels)s::text[])
            AND said.label <> 'as made' AND item_class.type <> 'storage'
        """,
        {"labels": [label or "" for label in labels]},
    )
    by_class = await records(database, "models", "day", gpu=gpu)
    by_item = await records(database, "models", "day", gpu=gpu, scope=Scope(user_id=NO_USER))
    assert [row for row in by_class if any(row[2:5])] == [row for row in by_item if any(row[2:5])]


async def records(
    database: Database,
    of: Of,
    bucket: Bucket,
    *,
    scope: Scope = EVERYTHING,
    gpu: str | None = None,
) -> Sequence[Record]:
    """All records of the lines' time."""
    asked = Asked(
        of=of,
        bucket=bucket,
        start=FIRST - timedelta(days=5),
        end=FIRST + timedelta(days=20),
        gpu=gpu,
    )
    async with list_records(database, asked, "USD", scope) as listing:
        return [listing.rated(each) for each in await listing.rows.chunk()]


async def sums(
    database: Database, of: Of, bucket: Bucket
) -> Mapping[tuple[datetime, str], Decimal]:
    """Their amounts, undivided."""
    return {(each.starts_at, each.id): each.amount for each in await records(database, of, bucket)}


def without_zeros(
    found: Mapping[tuple[datetime, str], Decimal],
) -> Mapping[tuple[datetime, str], Decimal]:
    """A model that a pod held before may have a record of nothing, or none."""
    return {key: amount for key, amount in found.items() if amount}


def lay(charges: Charges, lines: Sequence[Line]) -> None:
    """Put them into an empty database."""
    charges.clear()
    items = {
        thing: charges.item(thing.pod, thing.type, model=thing.model, quota=thing.quota)
        for thing in dict.fromkeys(line.thing for line in lines)
    }
    for line in lines:
        if line.ms:
            charges.charge(items[line.thing], line.fee, at=line.at, ms=line.ms)
        else:
            charges.adjust(items[line.thing], line.fee, at=line.at)
    charges.roll_up()


def day(line: Line) -> datetime:
    """The day on which it counts."""
    return floor(line.at, "day")


def counts(line: Line, lines: Sequence[Line]) -> bool:
    """Whether its pod was known to hold a device by then."""
    return bool(models(line.thing.pod, day(line), lines))


def models(pod: str, until: datetime, lines: Sequence[Line]) -> Sequence[str]:
    """Those of which something was booked by the end of a day."""
    own = (each for each in lines if each.thing.pod == pod and day(each) <= until)
    return sorted({each.thing.group for each in own if each.thing.group})


def by_model(lines: Sequence[Line], bucket: Bucket) -> Mapping[tuple[datetime, str], Decimal]:
    """What each model of a bucket comes to: split slot by slot, pod by pod."""
    slot: Bucket = "hour" if bucket == "hour" else "day"
    found: dict[tuple[datetime, str], Decimal] = defaultdict(Decimal)
    for pod, at in {(line.thing.pod, floor(line.at, slot)) for line in lines}:
        within = [each for each in lines if each.thing.pod == pod and floor(each.at, slot) == at]
        shown = models(pod, floor(at, "day"), lines)
        if not shown:
            continue
        past = [each for each in lines if each.thing.pod == pod and day(each) <= at]
        total = sum((each.fee for each in within), Decimal(0)) * COMMON.unit_hour
        for model, share in zip(shown, shares(total, shown, within, past), strict=True):
            found[floor(at, bucket), model] += share
    return found


def shares(
    total: Decimal, shown: Sequence[str], within: Sequence[Line], past: Sequence[Line]
) -> Sequence[Decimal]:
    """By device x ms of the slot, else of all until then, else evenly; in its last digit."""
    weights = [1] * len(shown)
    for lines in (past, within):
        held = [sum(each.device_ms for each in lines if each.thing.group == one) for one in shown]
        weights = held if any(held) else weights
    exponent = min(0, total.normalize().as_tuple().exponent)
    assert isinstance(exponent, int)
    return [each * Decimal(10) ** exponent for each in split(int(total.scaleb(-exponent)), weights)]
