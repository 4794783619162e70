"""What the administrators' endpoints show of nodes and of measured usage."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, TypeAdapter

from aggregator.api.instants import UtcTime, stored_utc_text, utc_text
from aggregator.api.wire import Double, ShownUuid, wire
from aggregator.billing.items import Item, Measured, Node
from aggregator.rating.money import number


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLine:
    """A device of a node."""

    type: str
    id: str
    model: str


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLine:
    """A node, as it last described itself."""

    name: str
    cluster: str
    address: str
    agent_version: str
    cpu_m: int
    mem_mi: Double
    cpu_model: str
    devices: list[DeviceLine]
    first_seen_at: UtcTime
    last_seen_at: UtcTime
    is_alive: Annotated[bool, Field(description="False after 10 minutes of silence")]
    live_jobs: int


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class UsageDetail:
    """An item with all that was measured, in unit-hours."""

    id: ShownUuid
    start_time: UtcTime
    end_time: UtcTime
    cluster: str
    node: str
    job_id: str
    job_name: str
    user_id: ShownUuid
    username: str | None
    vc_name: str
    project: str
    namespace: str
    kind: str
    type: str
    device: str | None
    unit: Annotated[str, Field(description="Of the quota; the hours are of this unit")]
    quota: Double
    allocated: Annotated[Double, Field(description="Quota x time held")]
    used: Annotated[Double, Field(description="What was used")]
    effective: Annotated[Double, Field(description="The larger of both, per sampling interval")]
    usage: Annotated[Double, Field(description="What is billed, by the type's method")]
    unpriced: Annotated[Double, Field(description="The part of it without a ratio")]
    coverage: Annotated[
        float | None, Field(description="Observed part of the time; null: nothing rated yet")
    ]
    is_running: bool


NODE_LINES = TypeAdapter(list[NodeLine])
USAGE_DETAILS = TypeAdapter(list[UsageDetail])


def node_line(node: Node) -> NodeLine:
    """A node in the units of the APIs."""
    return NodeLine(
        name=node.name,
        cluster=node.cluster,
        address=node.address,
        agent_version=node.agent_version,
        cpu_m=node.cpu_m,
        mem_mi=number(node.mem_units),
        cpu_model=node.cpu_model,
        devices=[DeviceLine(**each) for each in node.devices],
        first_seen_at=utc_text(node.first_seen_at),
        last_seen_at=utc_text(node.last_seen_at),
        is_alive=node.is_alive,
        live_jobs=node.live_jobs,
    )


def usage_detail(row: tuple[Item, Measured]) -> UsageDetail:
    """An item with all its quantities."""
    item, measured = row
    return UsageDetail(
        id=item.item_id,
        start_time=stored_utc_text(item.started_at),
        end_time=stored_utc_text(item.ended_at),
        cluster=measured.cluster,
        node=item.node,
        job_id=item.job_id,
        job_name=item.job_name,
        user_id=item.user_id,
        username=item.username,
        vc_name=item.vc,
        project=measured.project,
        namespace=measured.namespace,
        kind=measured.kind,
        type=item.type,
        device=item.model,
        unit=item.unit.name,
        quota=number(item.quota_units),
        allocated=number(item.hours(measured.allocated)),
        used=number(item.hours(measured.used)),
        effective=number(item.hours(measured.effective)),
        usage=number(item.usage),
        unpriced=number(item.hours(measured.unpriced)),
        coverage=measured.coverage,
        is_running=item.is_running,
    )
