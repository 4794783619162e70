"""What the Bill API reads and writes."""

from dataclasses import dataclass, fields
from typing import Annotated
from uuid import UUID

from pydantic import Field, TypeAdapter

from aggregator.api.instants import UtcTime, stored_utc_text
from aggregator.api.wire import Double, RatioText, RatioValue, ShownUuid, wire
from aggregator.billing.items import Item, User


@wire
@dataclass(slots=True)
class ItemShape:
    """What bills and usages have in common.

    As lists are long, it is not frozen and is made by position: in a third of the time.
    """

    id: Annotated[ShownUuid, Field(description="The same in Bills and Usages")]
    start_time: Annotated[UtcTime, Field(description="Start time, utc format")]
    end_time: Annotated[UtcTime, Field(description="End time, utc format, exclusive")]
    job_id: Annotated[str | None, Field(description="Job Id")]
    job_name: Annotated[str | None, Field(description="Job name")]
    user_id: Annotated[ShownUuid, Field(description="User Id; all zero: no user known")]
    username: Annotated[str | None, Field(description="Username")]
    vc_name: Annotated[str | None, Field(description="The name of virtual cluster")]
    type: Annotated[str | None, Field(description="Usage type, cpu, mem, gpu, npu, storage")]
    node: Annotated[str | None, Field(description="The IP of the node where job runs on")]
    device: Annotated[str | None, Field(description="Device model")]
    quota: Annotated[
        Double, Field(description="Device quota, CPU unit - m, Memory unit - Mi, GPU/NPU - number")
    ]
    usage: Annotated[Double, Field(description="Sum of the resource usage, using hour as unit")]


@wire
@dataclass(slots=True)
class UsageItem(ItemShape):
    """Usage of one job run, type, node, device model and quota."""

    is_running: Annotated[bool, Field(description="Whether the job is still running")]


@wire
@dataclass(slots=True)
class BillItem(ItemShape):
    """Usage and fee of one job run, type, node, device model and quota."""

    fee: Annotated[Double, Field(description="Fee; 0 as long as there is no ratio")]
    is_running: Annotated[bool, Field(description="Whether the job is still running")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class UserItem:
    """A user whose jobs were metered."""

    id: UUID
    user_name: str | None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class RatioInfo:
    """A ratio as it is shown."""

    key: Annotated[str | None, Field(description="Metrics or usage Type")]
    value: Annotated[Double, Field(description="The ratio value")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class RatioForm:
    """A ratio to set."""

    key: Annotated[RatioText, Field(description="Metrics or usage Type")]
    value: Annotated[RatioValue, Field(description="The ratio value, per unit and hour")]


USAGE_COLUMNS = tuple(each.name for each in fields(UsageItem))
BILL_COLUMNS = tuple(each.name for each in fields(BillItem))

USAGE_ITEMS = TypeAdapter(list[UsageItem])
BILL_ITEMS = TypeAdapter(list[BillItem])
USER_ITEMS = TypeAdapter(list[UserItem])
RATIO_INFOS = TypeAdapter(list[RatioInfo])
RATIO_FORM = TypeAdapter(RatioForm)


def usage_item(item: Item) -> UsageItem:
    """An item without its fee."""
    quota, usage, _ = item.figures
    return UsageItem(
        item.item_id,
        stored_utc_text(item.started_at),
        stored_utc_text(item.ended_at),
        item.job_id,
        item.job_name,
        item.user_id,
        item.username,
        item.vc,
        item.type,
        item.node,
        item.model,
        quota,
        usage,
        item.is_running,
    )


def bill_item(item: Item) -> BillItem:
    """An item with its fee."""
    quota, usage, fee = item.figures
    return BillItem(
        item.item_id,
        stored_utc_text(item.started_at),
        stored_utc_text(item.ended_at),
        item.job_id,
        item.job_name,
        item.user_id,
        item.username,
        item.vc,
        item.type,
        item.node,
        item.model,
        quota,
        usage,
        fee,
        item.is_running,
    )


def user_item(user: User) -> UserItem:
    """A user by the original's names."""
    return UserItem(id=user.user_id, user_name=user.username)
