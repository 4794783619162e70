"""All accounts of one node, and what the wire knows them by."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from agent import integrate
from agent.accounts.amount import Amount, Interval, minute_of
from agent.accounts.devices import DeviceAccount, Holding
from agent.accounts.host import HostAccount
from agent.integrate import MINUTE_MS, UsageRecord
from agent.model import DEVICE_UNITS, Device, Reading, ResourceType
from proto.metering.v1 import metering_pb2 as pb

LAG_MS = 2 * MINUTE_MS
"""How late a window is told: for so long a start or an end may stay unknown at no cost."""

PROVIDER = "node"
_REACH_MS = (1 << 32) - 2 * MINUTE_MS
_MAX_MINUTES = 240
"""After a long absence so much time is told per look, and the rest by the next ones."""

HostReadings = Mapping[ResourceType, Reading]
"""CPU (a counter since the boot) and memory (a level) of the whole node, as far as read."""


Numbering = Callable[[], int]
"""Gives out the next number of the stream."""


class Named(NamedTuple):
    """What the wire knows an account, or a meter of one, by."""

    number: int
    started_at_ms: int


class Told(NamedTuple):
    """Records of accounts and the definitions that make them readable."""

    runs: Sequence[pb.Run]
    meters: Sequence[pb.Meter]
    records: Sequence[UsageRecord]


@dataclass(slots=True)
class NodeAccounts:
    """See the package. Instants are agent time; `seen_ms` is when the node was looked at last."""

    position_ms: int
    seen_ms: int
    hosts: dict[ResourceType, HostAccount] = field(default_factory=dict[ResourceType, HostAccount])
    devices: dict[str, DeviceAccount] = field(default_factory=dict[str, DeviceAccount])
    unseen: list[Interval] = field(default_factory=list[Interval])
    amounts: list[Amount] = field(default_factory=list[Amount])
    strangers: dict[str, dict[int, Holding]] = field(
        default_factory=dict[str, dict[int, Holding]]
    )  # of devices that no inventory has listed yet
    names: dict[str, Named] = field(default_factory=dict[str, Named])  # of runs and meters told

    # What there is -----------------------------------------------------------------------

    def set_capacity(self, type_: ResourceType, capacity: int) -> None:
        """Know how much of a resource the node has; a change holds from the next start on."""
        if type_ not in self.hosts:
            meter = integrate.open_meter(0, 0, self.position_ms)
            self.hosts[type_] = HostAccount(type=type_, capacity=capacity, meter=meter)
        self.hosts[type_].capacity = capacity

    def set_devices(self, devices: Iterable[Device], now_ms: int) -> None:
        """Take the inventory: who is new, who can be used. Who is missing in it cannot."""
        listed = {device.id: device for device in devices if device.parent is None}
        for device in listed.values():
            if device.id not in self.devices:
                self.devices[device.id] = DeviceAccount(
                    type=device.type,
                    device=device.id,
                    model=device.model,
                    opened_at_ms=now_ms,
                    position_ms=now_ms,
                    holdings=self.strangers.pop(device.id, {}),
                )
        for name, account in self.devices.items():
            known = listed.get(name)
            account.set_up(now_ms, is_up=known is not None and known.is_up)

    # What happens ------------------------------------------------------------------------

    def hold(self, device: str, number: int, units: int, start_ms: int) -> None:
        """The meter `number` bills a share of a physical device from here on."""
        if account := self.devices.get(device):
            account.hold(number, units, start_ms)
        else:
            self.strangers.setdefault(device, {})[number] = Holding(units, start_ms)

    def release(self, device: str, number: int, end_ms: int) -> None:
        """That meter has ended."""
        if account := self.devices.get(device):
            account.release(number, end_ms)
        elif device in self.strangers:
            self.strangers[device].pop(number, None)

    def inherit(self, device: str, old: int, new: int) -> None:
        """Another meter bills the share from now on."""
        account = self.devices.get(device)
        if account and old in account.holdings:
            account.holdings[new] = account.holdings.pop(old)

    def attribute(self, type_: ResourceType, record: UsageRecord) -> None:
        """A record of a job's meter is told."""
        if host := self.hosts.get(type_):
            host.attribute(record.start_ms, record.used)

    def observe(self, now_ms: int, readings: HostReadings, hold_ms: int, blind_ms: int) -> None:
        """Take readings of the whole node."""
        if now_ms - self.seen_ms > hold_ms:
            self.unseen.append(Interval(self.seen_ms, now_ms))
        self.seen_ms = now_ms
        for type_, reading in readings.items():
            if host := self.hosts.get(type_):
                host.observe(now_ms, reading, hold_ms, blind_ms)

    def settle(self, now_ms: int, hold_ms: int, *, flush: bool = False) -> None:
        """Account for what is old enough; `flush`: for everything up to now."""
        latest_ms = now_ms if flush else minute_of(now_ms - LAG_MS)
        until_ms = (
            latest_ms if flush else min(latest_ms, self.position_ms + _MAX_MINUTES * MINUTE_MS)
        )
        if until_ms <= self.position_ms and not flush:
            return
        for account in self.devices.values():
            self.amounts += account.settle(until_ms, self.unseen)
        for host in self.hosts.values():
            self.amounts += host.settle(until_ms, hold_ms, _MAX_MINUTES, flush=flush)
        self.position_ms = max(until_ms, self.position_ms)
        self.unseen = [one for one in self.unseen if one.end_ms is None or one.end_ms > until_ms]

    def reboot(self, boot_ms: int, now_ms: int) -> None:
        """The machine was off since it was seen last, and runs again since `boot_ms`."""
        since_ms = max(self.seen_ms, self.position_ms)
        boot_ms = min(max(boot_ms, since_ms), now_ms)
        for account in self.devices.values():
            account.note_down(since_ms, boot_ms)
        for host in self.hosts.values():
            self.amounts += host.settle(since_ms, 0, 1 << 30, flush=True)
            self.amounts += host.note_down(since_ms, boot_ms)
            host.restart(boot_ms)
        self.unseen.append(Interval(since_ms, now_ms))
        self.seen_ms = now_ms

    def shift(self, by_ms: int) -> None:
        """Move with the clock, after everything was told; a new time needs new meters."""
        self.position_ms += by_ms
        self.seen_ms += by_ms
        self.unseen = []
        for account in self.devices.values():
            account.shift(by_ms)
        for host in self.hosts.values():
            integrate.shift(host.meter, by_ms)
        if by_ms < 0:
            self.names = {}

    def forfeit(self, floor_ms: int) -> None:
        """Tell nothing from before: it may have been told already."""
        self.amounts = [amount for amount in self.amounts if amount.start_ms >= floor_ms]
        if floor_ms <= self.position_ms:
            return
        for account in self.devices.values():
            list(account.settle(floor_ms, ()))
        for host in self.hosts.values():
            integrate.forfeit(host.meter, floor_ms)
            host.forget(floor_ms)
        self.position_ms = floor_ms

    # What is told ------------------------------------------------------------------------

    def take(self, limit: int, number: Numbering, others: Sequence[UsageRecord]) -> Told:
        """Take out at most `limit` records, with the definitions that they need.

        They go into one frame with `others`, whose instants are offsets of 32 bits.
        """
        count = _fitting(self.amounts[:limit], others)
        taken, self.amounts = self.amounts[:count], self.amounts[count:]
        runs: dict[int, pb.Run] = {}
        meters: dict[int, pb.Meter] = {}
        records: list[UsageRecord] = []
        for amount in taken:
            run = self._define_run(amount, number)
            meter = self._define_meter(amount, run, number)
            runs[run.number], meters[meter.number] = run, meter
            records.append(_record(meter.number, amount))
        return Told(list(runs.values()), list(meters.values()), records)

    def _define_run(self, amount: Amount, number: Numbering) -> pb.Run:
        named = self._name(amount.account, amount, number)
        return pb.Run(
            number=named.number,
            key=f"{PROVIDER}:{amount.account}",
            provider=PROVIDER,
            job_id=PROVIDER,
            job_name=amount.account,
            vc="default",
            kind=amount.account,
            started_at_ms=named.started_at_ms,
        )

    def _define_meter(self, amount: Amount, run: pb.Run, number: Numbering) -> pb.Meter:
        name = f"{amount.account} {amount.type} {amount.device or ''}"
        named = self._name(name, amount, number)
        device = self.devices.get(amount.device) if amount.device else None
        quota = DEVICE_UNITS if amount.device else self.hosts[amount.type].capacity
        return pb.Meter(
            number=named.number,
            run=run.number,
            type=amount.type,
            device=amount.device,
            model=device.model if device else None,
            quota=quota,
            group_quota=quota,
            started_at_ms=named.started_at_ms,
        )

    def _name(self, name: str, amount: Amount, number: Numbering) -> Named:
        """Number it when it is first told; its start never changes then."""
        if name not in self.names:
            self.names[name] = Named(number(), amount.start_ms)
        return self.names[name]


def _fitting(amounts: Sequence[Amount], others: Sequence[UsageRecord]) -> int:
    """How many of the amounts can share a frame with the other records."""
    starts = [record.start_ms for record in others] or [amount.start_ms for amount in amounts[:1]]
    if not starts:
        return 0
    lowest_ms, highest_ms = min(starts), max(starts)
    for count, amount in enumerate(amounts):
        lowest_ms, highest_ms = min(lowest_ms, amount.start_ms), max(highest_ms, amount.start_ms)
        if highest_ms - lowest_ms > _REACH_MS:
            return count
    return len(amounts)


def _record(number: int, amount: Amount) -> UsageRecord:
    """Devices are accounted for by what is allocated, all else by what is used."""
    allocated, used = (amount.value, 0) if amount.device else (0, amount.value)
    length_ms = amount.end_ms - amount.start_ms
    return UsageRecord(
        number, amount.start_ms, length_ms, allocated, used, amount.value, amount.observed_ms
    )
