"""Price lists as files, in and out.

CSV with the header `key,value`, and where wanted `per`, `from` and `to`; or YAML or JSON, an
object of values by key, in which a value may also be an object of those fields, or a list
of such. Reading is the inverse of writing. A fault names its line and column, and nothing
of a list with a fault is used.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby, pairwise

from aggregator.admin import pricelist_csv, pricelist_json, pricelist_yaml
from aggregator.admin.client import Json, Number
from aggregator.admin.errors import UsageError
from aggregator.admin.pricelist_entry import Entry, Kind
from aggregator.admin.prices import PriceWordsError, to_value
from aggregator.admin.times import TimeWordsError, minute, wire_text
from aggregator.rating.money import plain
from aggregator.rating.ratio import why_unstorable

MAX_PRICES = 10_000
"""In one list, as the aggregator takes it."""

_FIRST = datetime.min.replace(tzinfo=UTC)
_READERS = {
    Kind.CSV: pricelist_csv.read,
    Kind.JSON: pricelist_json.read,
    Kind.YAML: pricelist_yaml.read,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A price per API unit-hour over [start, end); None: as soon as may be, without end.

    `entry` is where it was read.
    """

    key: str
    value: Decimal
    start: datetime | None = None
    end: datetime | None = None
    entry: Entry | None = field(default=None, compare=False, repr=False)

    @property
    def is_ranged(self) -> bool:
        """Whether it says when it holds."""
        return self.start is not None or self.end is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A price and where it stands."""

    price: Price
    entry: Entry


def kind_of(name: str) -> Kind:
    """The kind that a file's name tells; CSV if it tells none."""
    ending = name.lower().rpartition(".")[2] if "." in name else ""
    return {"json": Kind.JSON, "yaml": Kind.YAML, "yml": Kind.YAML}.get(ending, Kind.CSV)


def write(prices: Sequence[Price], kind: Kind) -> str:
    """A price list as text, by key and start."""
    if kind is Kind.CSV:
        return pricelist_csv.write([_fields(price) for price in prices])
    by_key: dict[str, Json] = {}
    for key, group in groupby(prices, key=lambda price: price.key):
        shown: list[Json] = [_shown(price) for price in group]
        by_key[key] = shown[0] if len(shown) == 1 else shown
    return pricelist_json.write(by_key) if kind is Kind.JSON else pricelist_yaml.write(by_key)


def read(text: str, kind: Kind, name: str) -> Sequence[Price]:
    """The prices of a text, by key and start; UsageError names the first fault's place."""
    found: dict[str, list[_Read]] = {}
    for count, entry in enumerate(_READERS[kind](text, name)):
        if count >= MAX_PRICES:
            raise UsageError(
                f"{name}: holds more than {MAX_PRICES} prices; split it into several lists"
            )
        found.setdefault(entry.key, []).append(_Read(price=_price(entry), entry=entry))
    return [each.price for key in sorted(found) for each in _apart(found[key])]


def _price(entry: Entry) -> Price:
    if reason := why_unstorable(entry.key):
        raise entry.fault("key", reason)
    try:
        value = to_value(entry.key, entry.fields.get("value", ""), entry.fields.get("per"))
    except PriceWordsError as error:
        raise entry.fault(error.column, str(error)) from error
    price = Price(
        key=entry.key,
        value=value,
        start=_time(entry, "from"),
        end=_time(entry, "to"),
        entry=entry,
    )
    if price.start and price.end and price.end <= price.start:
        raise entry.fault("to", "must be after `from`")
    return price


def _time(entry: Entry, column: str) -> datetime | None:
    text = entry.fields.get(column)
    try:
        return minute(text) if text else None
    except TimeWordsError as error:
        raise entry.fault(column, str(error)) from error


def _apart(of_key: Sequence[_Read]) -> Iterable[_Read]:
    """The prices of one key by start; UsageError for two that claim the same time."""
    ordered = sorted(of_key, key=lambda each: each.price.start or _FIRST)
    for one, other in pairwise(ordered):
        place = one.entry.place("key")
        if one.price.start == other.price.start:
            raise other.entry.fault("key", f"{other.price.key!r} is given twice, also in {place}")
        if one.price.end and other.price.start and other.price.start < one.price.end:
            raise other.entry.fault(
                "from", f"overlaps the range that ends {wire_text(one.price.end)}, in {place}"
            )
    return ordered


def _fields(price: Price) -> Mapping[str, Json]:
    """Only what is said."""
    said: dict[str, Json] = {"key": price.key, "value": Number(plain(price.value))}
    if price.start:
        said["from"] = wire_text(price.start)
    if price.end:
        said["to"] = wire_text(price.end)
    return said


def _shown(price: Price) -> Json:
    """A bare number unless there is more to say."""
    fields = {name: value for name, value in _fields(price).items() if name != "key"}
    return fields if price.is_ranged else fields["value"]
