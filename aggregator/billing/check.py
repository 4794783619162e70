"""What is wrong with the declared ratios: keys that price nothing, usage without a price.

Findings only; nothing is changed. Prices are compared with every class of usage that was
ever metered, so a key that names a model or a virtual cluster can be right and still have
nothing to price yet. A plain type is always right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from aggregator.billing.database import Database, rows_of
from aggregator.billing.periods import closed_until
from aggregator.billing.ratios import declared_ratios, list_ratios
from aggregator.billing.scope import EVERYTHING
from aggregator.model import ResourceType
from aggregator.rating import money
from aggregator.rating.ratio import RatioKey, most_specific, parse, why_nothing
from aggregator.store.queries import query
from aggregator.units import UNITS

_LIST_CLASS_FINDINGS = query("list_class_findings")


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleKey:
    """A ratio that prices nothing, and why."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowedKey:
    """A virtual cluster's plain price that is used instead of a model's price."""

    key: str
    instead_of: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpricedClass:
    """A class of usage that lacks a price, now or for some of its past.

    `hours` are the unit-hours without a price in `items` items; `priced_by` is the key
    that prices the class from now on, None if none does. `is_closed`: some of them begin in
    a closed period, so that what is priced now is booked into an open one.
    """

    type: str
    model: str | None
    vc: str
    items: int
    hours: float
    first_at: datetime | None
    last_at: datetime | None
    priced_by: str | None
    is_closed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that is wrong, each list in the order of its key or class."""

    matching_nothing: Sequence[IdleKey]
    shadowed: Sequence[ShadowedKey]
    unpriced: Sequence[UnpricedClass]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Class:
    type: str
    model: str | None
    vc: str
    items: int
    unpriced: Decimal
    first_at: datetime | None
    last_at: datetime | None


async def check_ratios(database: Database) -> Findings:
    """Compare the declared ratios with all usage metered so far."""
    async with database.reading() as connection:
        keys = [ratio.key for ratio in await declared_ratios(connection)]
        classes = await rows_of(connection, _LIST_CLASS_FINDINGS, {}, _Class)
        closed = await closed_until(connection)
    return find(keys, classes, closed)


async def shadows_of(database: Database, key: str) -> Sequence[ShadowedKey]:
    """The shadows in which a key takes part."""
    keys = [ratio.key for ratio in await list_ratios(database, EVERYTHING)]
    return [each for each in _shadowed(_meanings(keys)) if key in {each.key, each.instead_of}]


def find(
    keys: Sequence[str], classes: Sequence[_Class], closed: datetime | None = None
) -> Findings:
    """The findings for declared keys and metered classes; pure."""
    meanings = _meanings(keys)
    unpriced = [_unpriced(each, meanings, closed) for each in classes]
    return Findings(
        matching_nothing=[idle for key in keys if (idle := _idle(key, classes))],
        shadowed=_shadowed(meanings),
        unpriced=[each for each in unpriced if each.items or each.priced_by is None],
    )


def _meanings(keys: Sequence[str]) -> Sequence[RatioKey]:
    return [meaning for key in keys if (meaning := parse(key))]


def _idle(key: str, classes: Sequence[_Class]) -> IdleKey | None:
    meaning = parse(key)
    if meaning is None:
        return IdleKey(key=key, reason=why_nothing(key))
    is_plain = meaning.model is None and meaning.vc is None
    if is_plain or any(_covers(meaning, each) for each in classes):
        return None
    seen = sorted({each.model for each in classes if each.type == meaning.type and each.model})
    reason = f"no {meaning.type.value} usage of this kind has been metered so far"
    if meaning.model and meaning.model not in seen and seen:
        reason += f"; metered models: {', '.join(seen)}"
    return IdleKey(key=key, reason=reason)


def _shadowed(meanings: Sequence[RatioKey]) -> Sequence[ShadowedKey]:
    known = set(meanings)
    pairs = (
        (plain, model, RatioKey(type=plain.type, model=model.model, vc=plain.vc))
        for plain in meanings
        for model in meanings
        if plain.type is model.type
        and (plain.vc is not None and plain.model is None)
        and (model.vc is None and model.model is not None)
    )
    return [
        ShadowedKey(key=str(plain), instead_of=str(model), remedy=str(both))
        for plain, model, both in pairs
        if both not in known
    ]


def _unpriced(each: _Class, meanings: Sequence[RatioKey], closed: datetime | None) -> UnpricedClass:
    best = most_specific(key for key in meanings if _covers(key, each))
    return UnpricedClass(
        type=each.type,
        model=each.model,
        vc=each.vc,
        items=each.items,
        hours=money.usage(int(each.unpriced), UNITS[ResourceType(each.type)]),
        first_at=each.first_at,
        last_at=each.last_at,
        priced_by=None if best is None else str(best),
        is_closed=bool(closed and each.first_at and each.first_at < closed),
    )


def _covers(key: RatioKey, each: _Class) -> bool:
    return key.covers(type_=each.type, model=each.model, vc=each.vc)
