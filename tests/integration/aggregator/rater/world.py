"""Random worlds: many timelines of usage, prices, closes and re-ratings, rated together.

A world is one database and one sequence of steps. Its timelines share the plain prices, the
methods, the closes and some orders to re-rate; each has meters, prices, orders and records
of its own, kept apart by its virtual cluster. So many timelines cost as many rounds as one.
Everything follows from a seed. What the pure model says is computed beside it.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from uuid import uuid5

from aggregator.model import NAMESPACE, BillId, MeterId, Method, Period, RatioId, ResourceType
from aggregator.rating.booking import Books, Line, Order, book, rerate, total_of
from aggregator.rating.rate import (
    AccountHour,
    Bill,
    Meter,
    MethodVersion,
    RatioVersion,
    Record,
    account_hours,
    rate,
)
from aggregator.rating.ratio import RatioKey, parse

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)
MARCH = datetime(2026, 3, 1, tzinfo=UTC)
NOW = datetime(2026, 9, 1, tzinfo=UTC)
"""Stands for the hour of a booking, which is that of the test."""

FIRST_HOUR = FEBRUARY - timedelta(hours=2)
HOURS = 4
MINUTES = (0, 28, 29, 30, 31, 59, 60, 61, 89, 90, 118, 119, 120, 121, 150, 179, 180, 181, 239)
VALUES = ("0", "1", "1", "2", "0.1", "2.5", "0.0009765625", "123456789.123456789")
TYPES = (ResourceType.CPU, ResourceType.MEM, ResourceType.GPU)
ACCOUNTS = (MeterId(-1), MeterId(-2))


def minute(number: int) -> datetime:
    """The n-th minute of every timeline."""
    return FIRST_HOUR + timedelta(minutes=number)


def hour(number: int) -> datetime:
    """The n-th hour of every timeline."""
    return minute(60 * number)


@dataclass(frozen=True, slots=True)
class Declare:
    """A price of the past: of whole hours, to be put over what is declared there."""

    key: str
    value: Decimal
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Arrive:
    """Groups of records that come together, in the order of their ids."""

    groups: Sequence[Sequence[Record]]


@dataclass(frozen=True, slots=True)
class Rerate:
    """An order: some hours, perhaps of one key; `batch` charges at a time."""

    start: datetime
    end: datetime
    key: str | None
    batch: int

    def order(self) -> Order:
        """The same to the model."""
        return Order(
            hours=Period(start=self.start, end=self.end),
            key=None if self.key is None else parse(self.key),
        )


@dataclass(frozen=True, slots=True)
class Close:
    """The end of a month that is closed."""

    month: Period


@dataclass(frozen=True, slots=True)
class Seal:
    """All hours before an instant are sealed."""

    until: datetime


Step = Arrive | Declare | Rerate | Seal | Close


@dataclass(slots=True, kw_only=True)
class World:
    """What happens, and what must come of it."""

    meters: dict[MeterId, Meter]
    methods: Sequence[MethodVersion]
    ratios: dict[str, list[RatioVersion]]
    steps: Sequence[Step]
    ids: Iterator[int]
    lines: list[Line] = field(default_factory=list[Line])
    accounts: list[Record] = field(default_factory=list[Record])
    books: Books = field(default_factory=lambda: Books(closed_until=None, now_hour=NOW))

    def arrive(self, step: Arrive) -> None:
        """Rate what came: each timeline by its own prices, which are few."""
        by_vc: dict[str, list[Record]] = {}
        for record in (record for group in step.groups for record in group):
            if record.meter_id in ACCOUNTS:
                if not self.books.is_closed(record.started_at):
                    self.accounts.append(record)
                continue
            by_vc.setdefault(self.meters[record.meter_id].vc, []).append(record)
        for vc, records in by_vc.items():
            charges = rate(records, self.meters, self.prices_of(vc), self.methods)
            self.lines += book(charges, self.books)

    def declare(self, step: Declare) -> "Overlay":
        """Put a price over those of the past."""
        overlay = laid_over(self.ratios.get(step.key, []), step, self.ids)
        self.ratios[step.key] = overlay.after
        return overlay

    def rerate(self, step: Rerate) -> list[Line]:
        """Append what an order appends."""
        by_vc: dict[str, list[Line]] = {}
        for line in self.lines:
            by_vc.setdefault(self.meters[line.charge.meter_id].vc, []).append(line)
        appended: list[Line] = []
        for vc, lines in by_vc.items():
            appended += rerate(lines, self.meters, self.prices_of(vc), step.order(), self.books)
        self.lines += appended
        return appended

    def seal(self, step: Seal) -> None:
        """Seal hours."""
        self.books = replace(self.books, sealed_until=step.until)

    def close(self, step: Close) -> None:
        """Close a month."""
        self.books = replace(self.books, closed_until=step.month.end)

    def prices_of(self, vc: str) -> list[RatioVersion]:
        """Every version that a timeline's usage may be priced by."""
        return [
            version
            for versions in self.ratios.values()
            for version in versions
            if version.key and version.key.vc in {None, vc}
        ]

    def bills(self) -> Mapping[BillId, Bill]:
        """Every bill."""
        return total_of(self.lines, self.meters.values())

    def account_hours(self) -> Sequence[AccountHour]:
        """What nodes accounted for in time."""
        return account_hours(self.accounts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """A declaration of the past as changes of versions."""

    ends: Sequence[tuple[RatioId, datetime]]
    opened: Sequence[RatioVersion]
    after: list[RatioVersion]


def laid_over(versions: Sequence[RatioVersion], step: Declare, ids: Iterator[int]) -> Overlay:
    """Cut what lies under a declaration, and put it there."""
    ends: list[tuple[RatioId, datetime]] = []
    kept: list[RatioVersion] = []
    new = [_version(next(ids), step.key, step.value, step.start, step.end)]
    for each in versions:
        is_under = each.starts_at < step.end and (each.ends_at is None or each.ends_at > step.start)
        if not is_under or each.ends_at == each.starts_at:
            kept.append(each)
            continue
        end = max(step.start, each.starts_at)
        ends.append((each.ratio_id, end))
        kept.append(replace(each, ends_at=end))
        if each.ends_at is None or each.ends_at > step.end:
            new.append(_version(next(ids), step.key, each.value, step.end, each.ends_at))
    return Overlay(ends=ends, opened=new, after=[*kept, *new])


def _version(
    number: int, key: str, value: Decimal, start: datetime, end: datetime | None
) -> RatioVersion:
    return RatioVersion(
        ratio_id=RatioId(number), key=parse(key), value=value, starts_at=start, ends_at=end
    )


def vc_of(timeline: int) -> str:
    """The virtual cluster that keeps a timeline apart."""
    return f"v{timeline}"


def random_world(seed: int, timelines: int) -> World:
    """The world of a seed."""
    chance = random.Random(seed)
    ids = count(1)
    meters = dict(_meters(chance, timelines))
    keys = {number: _own_keys(chance, number) for number in range(timelines)}
    plain = ["cpu", "mem", "gpu", "gpu:A", "cpu:B", "tokens"]
    ratios = {key: _versions(chance, key, ids) for key in chance.sample(plain, 4)}
    for own in keys.values():
        ratios |= {key: _versions(chance, key, ids) for key in own if chance.random() < 0.6}
    return World(
        meters=meters,
        methods=[version for type_ in ResourceType for version in _methods(chance, type_)],
        ratios=ratios,
        steps=list(_steps(chance, [*meters], [*plain[:5]], keys)),
        ids=ids,
    )


def _meters(chance: random.Random, timelines: int) -> Iterator[tuple[MeterId, Meter]]:
    numbers = count(1)
    for timeline in range(timelines):
        for _ in range(chance.randint(1, 3)):
            meter_id = MeterId(next(numbers))
            type_ = chance.choice(TYPES)
            model = None if type_ is ResourceType.MEM else chance.choice("AB")
            item = chance.randint(1, 2)  # meters of one class may share an item
            name = f"{timeline} {type_} {model} {item}"
            yield (
                meter_id,
                Meter(
                    meter_id=meter_id,
                    bill_id=BillId(uuid5(NAMESPACE, name)),
                    type=type_,
                    model=model,
                    vc=vc_of(timeline),
                    started_at=FIRST_HOUR,
                ),
            )


def _own_keys(chance: random.Random, timeline: int) -> list[str]:
    vc = vc_of(timeline)
    keys = [RatioKey(type=type_, vc=vc) for type_ in TYPES]
    keys += [RatioKey(type=ResourceType.GPU, model=model, vc=vc) for model in "AB"]
    return [str(key) for key in chance.sample(keys, 3)]


def _versions(chance: random.Random, key: str, ids: Iterator[int]) -> list[RatioVersion]:
    cuts = sorted(chance.sample(MINUTES, chance.randint(1, 3)))
    if chance.random() < 0.5:
        cuts = [-60, *cuts]
    found: list[RatioVersion] = []
    for start, until in zip(cuts, [*cuts[1:], None], strict=True):
        kind = chance.choice(["full", "full", "full", "short", "empty"])
        end = {"full": until, "short": start + 1, "empty": start}[kind]
        value = Decimal(chance.choice(VALUES))
        ends_at = None if end is None else minute(end)
        found.append(_version(next(ids), key, value, minute(start), ends_at))
    return found


def _methods(chance: random.Random, type_: ResourceType) -> list[MethodVersion]:
    cuts = sorted(chance.sample(MINUTES, chance.randint(0, 2)))
    starts = [None, *map(minute, cuts)]
    return [
        MethodVersion(type=type_, method=chance.choice(list(Method)), starts_at=start, ends_at=end)
        for start, end in zip(starts, [*starts[1:], None], strict=True)
    ]


def _steps(
    chance: random.Random,
    meters: Sequence[MeterId],
    plain: Sequence[str],
    keys: Mapping[int, Sequence[str]],
) -> Iterator[Step]:
    """Usage first; then usage, prices, orders and the closes, in any order."""
    closes = [Close(Period(start=JANUARY, end=FEBRUARY)), Close(Period(start=FEBRUARY, end=MARCH))]
    if chance.random() < 0.2:
        yield closes.pop(0)
    if chance.random() < 0.8:
        yield _arrival(chance, meters)
    seals = [Seal(hour(number)) for number in sorted(chance.sample(range(1, HOURS + 1), 2))]
    for _ in range(chance.randint(3, 5)):
        if seals and chance.random() < 0.3:
            yield seals.pop(0)
        own = [chance.choice(each) for each in keys.values() if chance.random() < 0.3]
        shared = [chance.choice(plain)] if chance.random() < 0.5 else []
        yield from (_declaration(chance, key) for key in own + shared)
        match chance.choice(["arrive", "rerate", "rerate", *(["close"] if closes else [])]):
            case "arrive":
                yield _arrival(chance, meters)
            case "close":
                yield closes.pop(0)
            case _:
                owner = chance.choice(list(keys.values()))
                some = [chance.choice(plain), chance.choice(owner), chance.choice(owner), None]
                yield _order(chance, chance.choice(some))
    yield _arrival(chance, meters)
    yield _order(chance, None)


def _arrival(chance: random.Random, meters: Sequence[MeterId]) -> Arrive:
    groups: list[list[Record]] = [[] for _ in range(chance.randint(1, 3))]
    for meter_id in (*meters, *ACCOUNTS):
        for _ in range(max(0, chance.randint(-2, 6))):
            chance.choice(groups).append(_record(chance, meter_id))
    return Arrive(groups)


def _record(chance: random.Random, meter_id: MeterId) -> Record:
    start = chance.choice([0, 0, 1, 30_000, 59_999])
    length = chance.choice([60_000 - start, chance.randint(1, 60_000 - start)])
    at = minute(chance.choice(MINUTES)) + timedelta(milliseconds=start)
    quantities = [chance.choice([0, 1, 7, chance.randint(0, 10**6), 10**13]) for _ in range(3)]
    return Record(
        meter_id=meter_id,
        started_at=at,
        ended_at=at + timedelta(milliseconds=length),
        allocated=quantities[0],
        used=quantities[1],
        effective=quantities[2],
        observed_ms=chance.randint(0, length),
    )


def _range(chance: random.Random) -> tuple[datetime, datetime]:
    start, end = sorted(chance.sample(range(HOURS + 1), 2))
    return hour(start), hour(end)


def _declaration(chance: random.Random, key: str) -> Declare:
    start, end = _range(chance)
    return Declare(key, Decimal(chance.choice(VALUES)), start, end)


def _order(chance: random.Random, key: str | None) -> Rerate:
    start, end = _range(chance) if chance.random() < 0.6 else (hour(0), hour(HOURS))
    return Rerate(start, end, key, chance.choice([1_000_000, 97, 23]))
