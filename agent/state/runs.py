"""The runs that the agent meters, and which meters each of them wants."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.integrate import Meter
from agent.model import MeterKey, ResourceType, Run, RunKey
from proto.metering.v1 import metering_pb2 as pb


class GroupKey(NamedTuple):
    """All meters of a run that are one bill item: one type, one device model."""

    type: ResourceType
    model: str | None  # None for cpu, whose processor is named by the definition alone


Shares = Mapping[str | None, int]
"""Base units by device; the one share without a device is the quota itself."""


@dataclass(slots=True)
class LiveMeter:
    """A meter, what the wire knows it and its run by, and the key that its readings have."""

    key: MeterKey
    meter: Meter
    definition: pb.Meter
    run_definition: pb.Run
    is_closing: bool = False  # it has ended, and its last window may be recorded
    physical: str | None = None  # the device that its share is of; None = it is of none


@dataclass(slots=True)
class LiveRun:
    """A run that has not ended, or whose end is not in a frame yet.

    Mutable like the meters: it changes with every answer of its provider. Agent time is
    the provider's + `shift_ms` (a run that saw the clock being stepped). The run is known
    to have lived at `alive_at_ms`.
    """

    key: RunKey
    definition: pb.Run
    shift_ms: int
    alive_at_ms: int
    run: Run | None = None  # as last described; None = not since the agent started
    groups: dict[GroupKey, list[LiveMeter]] = field(default_factory=dict[GroupKey, list[LiveMeter]])
    closing: list[LiveMeter] = field(default_factory=list[LiveMeter])  # ended, not all recorded
    ended_at_ms: int | None = None
    is_stale: bool = False  # from before a reboot, not seen since
    provider: str = field(init=False)  # who describes it; a message's field costs more to ask

    def __post_init__(self) -> None:
        """Take the provider out of the definition."""
        self.provider = self.definition.provider

    def meters(self) -> list[LiveMeter]:
        """Those that go on."""
        return [meter for group in self.groups.values() for meter in group]


def wanted_groups(run: Run) -> Mapping[GroupKey, Shares]:
    """The meters that a run wants now."""
    groups: dict[GroupKey, dict[str | None, int]] = {
        GroupKey(type_, None): {None: quota} for type_, quota in run.quotas.items()
    }
    for device in run.devices:
        shares = groups.setdefault(GroupKey(device.type, device.model), {})
        shares[device.id] = shares.get(device.id, 0) + device.share
    return groups


def present_groups(live: LiveRun) -> Mapping[GroupKey, Shares]:
    """The meters that a run has now, in the same terms."""
    return {
        key: {opened.key.device: opened.meter.quota for opened in group}
        for key, group in live.groups.items()
    }


def define_run(run: Run, number: int, wire_key: str, started_at_ms: int) -> pb.Run:
    """Put a run into the words of the wire."""
    return pb.Run(
        number=number,
        key=wire_key,
        provider=run.provider,
        job_id=run.job_id,
        job_name=run.job_name,
        user_id=run.user_id,
        username=run.username,
        vc=run.vc,
        project=run.project,
        namespace=run.namespace,
        kind=run.kind,
        started_at_ms=started_at_ms,
    )
