"""Quotes: what a job would cost at the prices that are declared, line by line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from difflib import get_close_matches

from aggregator.billing.database import Connection, Database, rows_of
from aggregator.billing.ratios import clock_of
from aggregator.model import Method, RatioId, ResourceType
from aggregator.rating.quote import QuoteLine, Wanted, quote, total
from aggregator.rating.rate import MethodVersion, RatioVersion
from aggregator.rating.ratio import parse
from aggregator.store.queries import query

_LIST_RATIOS_WITHIN = query("list_ratios_within")
_LIST_METHODS_WITHIN = query("list_methods_within")
_LIST_KNOWN_MODELS = query("list_known_models")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotedLine:
    """A line, the texts of the keys that price it, and what to know of it."""

    line: QuoteLine
    keys: Mapping[RatioId, str]
    warnings: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What a job would cost over [start, end); `total` None: a part has no price."""

    start: datetime
    end: datetime
    lines: Sequence[QuotedLine]
    total: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ratio:
    ratio_id: int
    key: str
    value: Decimal
    starts_at: datetime
    ends_at: datetime | None

    def version(self) -> RatioVersion:
        return RatioVersion(
            ratio_id=RatioId(self.ratio_id),
            key=parse(self.key),
            value=self.value,
            starts_at=self.starts_at,
            ends_at=self.ends_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Method:
    type: str
    method: str
    starts_at: datetime | None
    ends_at: datetime | None

    def version(self) -> MethodVersion:
        return MethodVersion(
            type=ResourceType(self.type),
            method=Method(self.method),
            starts_at=self.starts_at,
            ends_at=self.ends_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    type: str
    model: str


async def quote_job(
    database: Database, wanted: Sequence[Wanted], length: timedelta, start: datetime | None
) -> Quote:
    """What the resources would cost from `start`, or from this minute, for `length`."""
    async with database.reading() as connection:
        now = await clock_of(connection)
        since = start or now.replace(second=0, microsecond=0)
        until = since + length
        asked = {
            "types": sorted({each.type.value for each in wanted}),
            "starts_at": since,
            "ends_at": until,
        }
        ratios = await rows_of(connection, _LIST_RATIOS_WITHIN, asked, _Ratio)
        methods = await rows_of(connection, _LIST_METHODS_WITHIN, asked, _Method)
        models = await _models(connection)
    versions = [row.version() for row in ratios]
    ways = [row.version() for row in methods]
    keys = {RatioId(row.ratio_id): row.key for row in ratios}
    lines = [quote(each, since, until, versions, ways) for each in wanted]
    shown = [QuotedLine(line=each, keys=keys, warnings=_warnings(each, models)) for each in lines]
    return Quote(start=since, end=until, lines=shown, total=total(lines))


async def _models(connection: Connection) -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    for row in await rows_of(connection, _LIST_KNOWN_MODELS, {}, _Model):
        found.setdefault(row.type, []).append(row.model)
    return found


def _warnings(line: QuoteLine, models: Mapping[str, Sequence[str]]) -> Sequence[str]:
    wanted = line.wanted
    said: list[str] = []
    known = models.get(wanted.type.value, ())
    if wanted.model is not None and wanted.model not in known:
        near = get_close_matches(wanted.model, known, n=3) or known[:3]
        others = f"; known ones are {', '.join(near)}" if near else ""
        said.append(f"no node ever had a {wanted.type.value} {wanted.model!r}{others}")
    if line.exact is None:
        said.append("a part of it has no price, so that it would be unpriced, not free")
    return said
