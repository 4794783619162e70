"""Opens and closes the meters of runs, and gives out their numbers."""

from dataclasses import dataclass, field

from agent import integrate
from agent.accounts import NodeAccounts
from agent.integrate import Meter
from agent.model import MeterKey, Reading, ReadingKind, ResourceType
from agent.state.runs import GroupKey, LiveMeter, LiveRun, Shares
from proto.metering.v1 import metering_pb2 as pb


@dataclass(slots=True)
class Meters:
    """The meters that are open, for readings to find.

    `next_number` numbers runs and meters alike, never twice in a stream. Nothing from
    before `floor_ms` may be recorded. `fresh` were opened and are not in a frame yet.
    """

    hold_ms: int
    cpu_model: str | None
    next_number: int = 1
    floor_ms: int | None = None
    open: dict[MeterKey, Meter] = field(default_factory=dict[MeterKey, Meter])
    fresh: list[LiveMeter] = field(default_factory=list[LiveMeter])
    accounts: NodeAccounts | None = None
    physical: dict[str, str] = field(default_factory=dict[str, str])  # of each device held

    def number(self) -> int:
        """Give out the next number."""
        self.next_number += 1
        return self.next_number - 1

    def open_group(self, live: LiveRun, key: GroupKey, shares: Shares, start_ms: int) -> None:
        """Begin all meters of a bill item.

        Where the run had a meter for the same device until then, its successor goes on
        from its last reading.
        """
        ended = {old.key: old.meter for old in live.closing if old.meter.position_ms == start_ms}
        group = live.groups[key] = []
        for device, quota in shares.items():
            opened = self._open(live, key, device, quota, start_ms)
            opened.definition.group_quota = sum(shares.values())
            if before := ended.get(opened.key):
                integrate.inherit(opened.meter, before)
            group.append(opened)

    def close_group(self, live: LiveRun, key: GroupKey, end_ms: int) -> None:
        """End all meters of a bill item; what they hold is still to be recorded."""
        for opened in live.groups.pop(key):
            integrate.settle(opened.meter, end_ms, self.hold_ms)
            opened.is_closing = True
            live.closing.append(opened)
            if self.open.get(opened.key) is opened.meter:
                del self.open[opened.key]
            if self.accounts and opened.physical:
                self.accounts.release(opened.physical, opened.definition.number, end_ms)

    def discard(self, opened: LiveMeter, at_ms: int) -> None:
        """Forget a meter with all that it holds."""
        self.open.pop(opened.key, None)
        self.fresh = [one for one in self.fresh if one is not opened]
        if self.accounts and opened.physical:
            self.accounts.release(opened.physical, opened.definition.number, at_ms)

    def add_rest(self, live: LiveRun, of: LiveMeter, used: int, end_ms: int) -> None:
        """Tell usage that no window of its meter can take any more: the last instant has it.

        That is another meter's, and of no quota: the time is allocated already.
        """
        group = GroupKey(of.key.type, None)
        rest = self._open(live, group, of.key.device, 0, end_ms - 1)
        del self.open[rest.key]
        reading = Reading(kind=ReadingKind.COUNTER, value=used)
        integrate.observe(rest.meter, end_ms, reading, self.hold_ms)
        rest.is_closing = True
        live.closing.append(rest)
        of.meter.value += used

    def note_source(self, live: LiveRun) -> None:
        """A cgroup counts for itself; of a process tree we may see less after a restart."""
        can_reset = live.run is None or live.run.cgroup is not None
        for opened in live.meters():
            opened.meter.can_reset = can_reset

    def renew(self, live: LiveRun, by_ms: int) -> None:
        """Replace all meters of a run by new ones whose time is shifted; theirs is recorded."""
        for key, group in list(live.groups.items()):
            live.groups[key] = []
            for old in group:
                integrate.shift(old.meter, by_ms)
                start_ms, quota = old.meter.position_ms, old.meter.quota
                new = self._open(live, key, old.key.device, quota, start_ms, heir_of=old)
                new.definition.group_quota = old.definition.group_quota
                integrate.inherit(new.meter, old.meter)
                new.meter.can_reset = old.meter.can_reset
                live.groups[key].append(new)

    def _open(
        self,
        live: LiveRun,
        group: GroupKey,
        device: str | None,
        quota: int,
        start_ms: int,
        *,
        heir_of: LiveMeter | None = None,
    ) -> LiveMeter:
        number = self.number()
        meter = integrate.open_meter(number, quota, start_ms, emit_from_ms=self.floor_ms)
        definition = pb.Meter(
            number=number,
            run=live.definition.number,
            type=group.type,
            device=device,
            model=self.cpu_model if group.type is ResourceType.CPU else group.model,
            quota=quota,
            started_at_ms=meter.cut_ms,
        )
        key = MeterKey(live.key, group.type, device)
        opened = LiveMeter(key, meter, definition, live.definition)
        self.open[key] = meter
        self.fresh.append(opened)
        if device is not None:
            self._hold(opened, device, heir_of)
        return opened

    def _hold(self, opened: LiveMeter, device: str, heir_of: LiveMeter | None) -> None:
        """Let the node's accounts know that a share of a device is somebody's."""
        number = opened.definition.number
        inherited = heir_of.physical if heir_of is not None else None
        opened.physical = inherited or self.physical.get(device, device)
        if opened.physical != device:
            opened.definition.physical = opened.physical
        if self.accounts and heir_of is not None:
            self.accounts.inherit(opened.physical, heir_of.definition.number, number)
        elif self.accounts:
            start_ms = opened.meter.cut_ms
            self.accounts.hold(opened.physical, number, opened.meter.quota, start_ms)
