"""The question that lists of items answer: which items."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, TypeAdapter

from aggregator.api.wire import Flag, Instant, UuidText, wire
from aggregator.billing.items import ItemFilter


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ItemQuery:
    """Which items; ours beyond userId and type are optional and off by default."""

    user_id: Annotated[UuidText | None, Field(description="User Id")] = None
    type: Annotated[
        str | None, Field(description="Usage type like cpu, mem, gpu, npu; unknown gives []")
    ] = None
    job_id: Annotated[str | None, Field(description="Job Id")] = None
    job: Annotated[str | None, Field(description="Job Id or job name")] = None
    vc_name: Annotated[str | None, Field(description="Name of the virtual cluster")] = None
    node: Annotated[str | None, Field(description="IP of the node")] = None
    running: Annotated[
        Flag | None, Field(description="Only running jobs, or only those that are not")
    ] = None
    start_time: Annotated[
        Instant | None, Field(description="Only what counts from the hour of this instant on")
    ] = None
    end_time: Annotated[
        Instant | None,
        Field(
            description="Only what counts before the end of the hour that this instant ends; "
            "items are then shown as of that end"
        ),
    ] = None

    def to_filter(self) -> ItemFilter:
        """The same question to the use case."""
        return ItemFilter(
            user_id=self.user_id,
            type=self.type,
            job_id=self.job_id,
            job=self.job,
            vc=self.vc_name,
            node=self.node,
            is_running=self.running,
            start=self.start_time,
            end=self.end_time,
        )


ITEM_QUERY = TypeAdapter(ItemQuery)
