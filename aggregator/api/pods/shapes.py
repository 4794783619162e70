"""What the Pods API reads and writes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias, TypeVar

from pydantic import BeforeValidator, Field, TypeAdapter, WithJsonSchema

from aggregator.api.answer import JSON
from aggregator.api.instants import Bound, utc_text
from aggregator.api.lists import Form
from aggregator.api.pods.gpu_types import GPU_TYPES
from aggregator.api.wire import Double, wire
from aggregator.billing.pods import DEFAULT_DAYS, Record, RecordListing
from aggregator.rating.bucket import Bucket
from aggregator.rating.money import number

IdName: TypeAlias = Literal["podId", "gpuTypeId", "endpointId"]

_PLUS_LOST = re.compile(r"(.*\d) (\d{2}:\d{2})")


def _restored(value: object) -> object:
    """A time as it was meant: a plus that was sent unescaped has come as a space."""
    return _PLUS_LOST.sub(r"\1+\2", value.upper()) if isinstance(value, str) else value


PodsTime: TypeAlias = Annotated[Bound, BeforeValidator(_restored)]

GpuTypeId: TypeAlias = Annotated[
    str,
    WithJsonSchema({"anyOf": [{"type": "string", "enum": GPU_TYPES}, {"type": "string"}]}),
]

BucketSize: TypeAlias = Annotated[
    Bucket | None,
    Field(description="The length of each billing time bucket, in UTC; by default day"),
]
StartTime: TypeAlias = Annotated[
    PodsTime | None,
    Field(
        description="Where the range begins: with the bucket in which this lies; by default"
        f" {DEFAULT_DAYS} days before its end"
    ),
]
EndTime: TypeAlias = Annotated[
    PodsTime | None,
    Field(
        description="Where the range ends: with the bucket in which the instant before this"
        " lies; by default now"
    ),
]
GpuFilter: TypeAlias = Annotated[
    GpuTypeId | None,
    Field(
        description="Only what has this device model, exactly as it is written; any that was"
        " metered, an NPU's too. Of pods it selects those, with all that they are charged"
    ),
]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class VolumesQuery:
    """Whose storage, of which time; what it does not know is ignored."""

    bucket_size: BucketSize = None
    end_time: EndTime = None
    network_volume_id: Annotated[
        str | None, Field(description="Only what this holds: the id of a job")
    ] = None
    start_time: StartTime = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class GpuQuery:
    """What is asked of pods, whatever they are called."""

    bucket_size: BucketSize = None
    end_time: EndTime = None
    gpu_type_id: GpuFilter = None
    start_time: StartTime = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class PodsQuery(GpuQuery):
    """Which pods, of which time; what it does not know is ignored."""

    grouping: Annotated[
        Literal["podId", "gpuTypeId"] | None,
        Field(description="A record of each pod or of each GPU type; by default gpuTypeId"),
    ] = None
    pod_id: Annotated[str | None, Field(description="Only this pod: the id of a job")] = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointsQuery(GpuQuery):
    """Which endpoints, of which time; what it does not know is ignored."""

    endpoint_id: Annotated[
        str | None, Field(description="Only this endpoint: the id of a job of kind service")
    ] = None
    grouping: Annotated[
        Literal["endpointId", "podId", "gpuTypeId"] | None,
        Field(description="A record of each of these; by default endpointId"),
    ] = None


_Amount: TypeAlias = Annotated[
    Double, Field(description="The amount charged for the group in the bucket, in USD")
]
_Disk: TypeAlias = Annotated[
    int, Field(description="The most disk that was held, in GB (10^9 bytes), rounded up")
]
_Id: TypeAlias = Annotated[str | None, WithJsonSchema({"type": "string"})]
_EndpointId: TypeAlias = Annotated[_Id, Field(description="If grouped by it, the endpoint")]
_GpuTypeId: TypeAlias = Annotated[_Id, Field(description="If grouped by it, the GPU type")]
_PodId: TypeAlias = Annotated[_Id, Field(description="If grouped by it, the pod")]
_Billed: TypeAlias = Annotated[
    int, Field(description="How long it ran in the bucket, in ms, not times devices")
]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class BillingRecord:
    """What a group is charged in a bucket; of the ids it has the one that it is grouped by."""

    amount: _Amount
    disk_space_billed_gb: _Disk
    endpoint_id: _EndpointId = None
    gpu_type_id: _GpuTypeId = None
    pod_id: _PodId = None
    time: Annotated[
        str,
        WithJsonSchema({"type": "string", "format": "date-time"}),
        Field(description="Where the bucket begins"),
    ]
    time_billed_ms: _Billed


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class LiveBillingRecord(BillingRecord):
    """The same as the original's service writes it, against its own description."""

    disk_space_billed_gb: Annotated[_Disk, Field(alias="diskSpaceBilledGB")]
    time: Annotated[str, Field(description="Where the bucket begins, like 2026-04-06 15:00:00")]


Shape = TypeVar("Shape", bound=BillingRecord)

PODS_QUERY: Final = TypeAdapter(PodsQuery)
ENDPOINTS_QUERY: Final = TypeAdapter(EndpointsQuery)
VOLUMES_QUERY: Final = TypeAdapter(VolumesQuery)
BILLING_RECORDS: Final = TypeAdapter(list[BillingRecord])
LIVE_RECORDS: Final = TypeAdapter(list[LiveBillingRecord])


def records_form(listing: RecordListing, id_name: IdName | None, *, is_live: bool) -> Form[Record]:
    """How a list is written. Its `encode` raises NoRateError before it gives anything."""
    time_of = _live_text if is_live else utc_text

    def shape(kind: type[Shape], record: Record) -> Shape:
        return kind(
            amount=number(record.money),
            disk_space_billed_gb=record.disk_gb,
            endpoint_id=record.id if id_name == "endpointId" else None,
            gpu_type_id=record.id if id_name == "gpuTypeId" else None,
            pod_id=record.id if id_name == "podId" else None,
            time=time_of(record.starts_at),
            time_billed_ms=int(record.billed_ms),
        )

    def write(
        kind: type[Shape], records: TypeAdapter[list[Shape]], rows: Sequence[Record]
    ) -> bytes:
        shown = [shape(kind, listing.rated(row)) for row in rows]
        return records.dump_json(shown, exclude_none=True)[1:-1]

    def encode(rows: Sequence[Record]) -> bytes:
        if is_live:
            return write(LiveBillingRecord, LIVE_RECORDS, rows)
        return write(BillingRecord, BILLING_RECORDS, rows)

    return Form(media_type=JSON, head=b"[", joint=b",", tail=b"]", encode=encode)


def _live_text(instant: datetime) -> str:
    return utc_text(instant).removesuffix("Z").replace("T", " ")
