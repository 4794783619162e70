"""What the Ledger API reads and writes."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from aggregator.api.csvtext import cells, lines
from aggregator.api.instants import UtcTime
from aggregator.api.wire import Double, wire
from aggregator.billing.ledger import CURRENCY, LedgerLine, LedgerPage, LedgerPart
from aggregator.rating.money import number

_SHOWN = ("timestamp", "sku", "price_per_unit_usd", "units", "amount", "currency", "notes")
_HEADER = (
    "timestamp", "sku", "pricePerUnitUsd", "units", "amount", "currency", "notes",
    "inferenceDetails.requestId", "inferenceDetails.inferenceExecutionTime",
    "inferenceDetails.promptTokens", "inferenceDetails.completionTokens",
)  # fmt: skip
_NO_INFERENCE = [""] * (len(_HEADER) - len(_SHOWN))


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """A charge, or an adjustment of one."""

    timestamp: Annotated[UtcTime, Field(description="Where its usage starts, in milliseconds")]
    sku: Annotated[str, Field(description="<type>-<device or plain>-<unit>-hour")]
    price_per_unit_usd: Annotated[Double, Field(description="Per unit-hour")]
    units: Annotated[Double, Field(description="Unit-hours; negative: taken back")]
    amount: Annotated[Double, Field(description="-(units x pricePerUnitUsd): debits are negative")]
    currency: Literal["USD"]
    notes: Annotated[str, Field(description="Job; of an adjustment also what it is, and of when")]
    inference_details: Annotated[None, Field(description="Always null: nothing is inferred here")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class Pagination:
    """Which page it is, of how many."""

    limit: Annotated[int, Field(ge=1, le=500)]
    page: Annotated[int, Field(ge=1)]
    total: Annotated[int, Field(ge=0, description="Lines on all pages")]
    total_pages: Annotated[int, Field(ge=0)]

    def headers(self) -> dict[str, str]:
        """The same as headers, which a table has too."""
        return {
            "x-pagination-limit": str(self.limit),
            "x-pagination-page": str(self.page),
            "x-pagination-total": str(self.total),
            "x-pagination-total-pages": str(self.total_pages),
        }


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class UsageAnswer:
    """A page of the ledger."""

    data: list[LedgerEntry]
    pagination: Pagination


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryAnswer:
    """A part of the ledger; `next_cursor` leads to the next one."""

    data: list[LedgerEntry]
    next_cursor: Annotated[str | None, Field(description="Null: there is no more")]


USAGE_ANSWER = TypeAdapter(UsageAnswer)
HISTORY_ANSWER = TypeAdapter(HistoryAnswer)


def entry(line: LedgerLine) -> LedgerEntry:
    """A line as it is shown."""
    return LedgerEntry(
        timestamp=ms_text(line.place.started_at),
        sku=line.sku,
        price_per_unit_usd=number(line.price),
        units=number(line.units),
        amount=number(line.amount),
        currency=CURRENCY,
        notes=line.notes,
        inference_details=None,
    )


def usage_answer(found: LedgerPage, *, page: int, limit: int) -> UsageAnswer:
    """A page with what is said of it."""
    pagination = Pagination(
        limit=limit, page=page, total=found.total, total_pages=math.ceil(found.total / limit)
    )
    return UsageAnswer(data=[entry(each) for each in found.lines], pagination=pagination)


def history_answer(found: LedgerPart, next_cursor: str | None) -> HistoryAnswer:
    """A part with the way on."""
    return HistoryAnswer(data=[entry(each) for each in found.lines], next_cursor=next_cursor)


def table(entries: list[LedgerEntry]) -> bytes:
    """The same as CSV; of text that users wrote a spreadsheet computes nothing."""
    return lines([_HEADER, *([*cells(each, _SHOWN), *_NO_INFERENCE] for each in entries)])


def ms_text(instant: datetime) -> str:
    """`2026-02-06T04:00:00.000Z`."""
    text = instant.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"
