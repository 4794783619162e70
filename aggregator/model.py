"""The aggregator's vocabulary: identifiers, closed sets, and the names that follow from keys.

Values only: no I/O, no clock, no database. Whatever two parts of the aggregator must
agree on stands here once: UUIDs that are derived, locks that are shared.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import NewType
from uuid import UUID, uuid5

NodeId = NewType("NodeId", int)
StreamId = NewType("StreamId", UUID)
RunId = NewType("RunId", int)
MeterId = NewType("MeterId", int)
PriceClassId = NewType("PriceClassId", int)
IngestGroupId = NewType("IngestGroupId", int)
RatioId = NewType("RatioId", int)
UserId = NewType("UserId", UUID)
BillId = NewType("BillId", UUID)
MeterUid = NewType("MeterUid", UUID)
Subject = NewType("Subject", int)
"""What a stream tells alone: a run by its number, a node's accounts below zero by its."""

NAMESPACE = UUID("6f3b8a52-2f0e-5c7a-9d41-7be0c2f1a6d3")
"""Of every UUIDv5 that nodemeter derives. Changing it would rename every item."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

NO_USER = UserId(UUID(int=0))
"""The user of a run whose provider knows none."""

UNPRICED = RatioId(0)
"""`charge.ratio_id` where no ratio was in force: kept, counted, never a price of zero."""

PRICE_LOCK = 0x6E6D0001
"""Advisory: the rater holds it shared while it rates, a change of a price exclusively."""

MIGRATE_LOCK = 0x6E6D0002
"""Advisory: one migration at a time."""

RATER_LOCK = 0x6E6D0003
"""Advisory: one rater (or retention) at a time; correct without it, since groups are locked."""

PERIOD_LOCK = 0x6E6D0004
"""Advisory: who adds to charges or adjustments holds it shared, a close exclusively.

Whoever takes it and PRICE_LOCK takes it first."""

DECLARATION_LOCK = 0x6E6D0011
"""Advisory: one change of quotas or currencies at a time."""


class ResourceType(StrEnum):
    """What is metered. Its units are in `aggregator.units`."""

    CPU = "cpu"
    MEM = "mem"
    GPU = "gpu"
    NPU = "npu"
    STORAGE = "storage"


DEVICE_TYPES = frozenset({ResourceType.GPU, ResourceType.NPU})
"""What is held by the device; the other types are of the whole node."""

NODE_PROVIDER = "node"
"""The provider whose runs are no jobs but the node's accounts."""


class Account(StrEnum):
    """What became of what a node has, beside what jobs had.

    Conserved (RATING 10): jobs + idle + unattributed + down - excess = capacity.
    """

    CAPACITY = "capacity"
    IDLE = "idle"
    UNATTRIBUTED = "unattributed"
    DOWN = "down"
    EXCESS = "excess"


class Method(StrEnum):
    """Which of a record's three quantities is billed."""

    EFFECTIVE = "effective"
    REQUEST = "request"
    USAGE = "usage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A half-open range of instants, `[start, end)`, both aware."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        """Refuse naive instants and a range that runs backwards."""
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("an instant without a time zone")
        if self.end < self.start:
            raise ValueError("a period that ends before it starts")


def user_id(cluster: str, username: str) -> UserId:
    """Name the user whom a provider knows by name alone."""
    return UserId(_derive("user", cluster, username))


def bill_id(
    *,
    node: str,
    run_key: str,
    type_: str,
    model: str | None,
    group_quota: int,
    started_at_ms: int,
) -> BillId:
    """Name the item: the same for all meters of one run, type and model that began together."""
    return BillId(_derive("bill", node, run_key, type_, model, group_quota, started_at_ms))


def hour_id(item: BillId, hour: datetime) -> UUID:
    """Name what one clock hour holds of an item, where hours are shown as items."""
    return uuid5(item, hour.astimezone(UTC).isoformat())


def meter_uid(
    *,
    node: str,
    run_key: str,
    type_: str,
    model: str | None,
    device: str | None,
    quota: int,
    group_quota: int,
    started_at_ms: int,
) -> MeterUid:
    """Name the meter by all that defines it, so that a repeated definition is the same meter."""
    return MeterUid(
        _derive("meter", node, run_key, type_, model, device, quota, group_quota, started_at_ms)
    )


def _derive(*parts: str | int | None) -> UUID:
    return uuid5(NAMESPACE, _ENCODER.encode(parts))
