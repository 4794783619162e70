"""CPU and memory of the whole node: what jobs did not use is idle, or somebody else's. Pure.

The node's own counter says what was used altogether, the records of the jobs what of it is
theirs. CPU is made even over time: where jobs were told more than the node had used by then
(a counter is read a little later than another), the next windows are that much shorter of
unattributed time. Memory has no such memory: what jobs have beyond the node's is `excess`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from agent import integrate
from agent.accounts.amount import Account, Amount, minute_of, windows
from agent.integrate import MINUTE_MS, Meter, UsageRecord
from agent.model import Reading, ReadingKind, ResourceType


@dataclass(slots=True)
class HostAccount:
    """See the module. `meter` is the node's own, told in no frame; it has no quota.

    `attributed` holds what the jobs used by whole minute, as far as the meter has not come
    there; `owed` what they were told too early, `late` what they were told too late.
    """

    type: ResourceType
    capacity: int  # base units
    meter: Meter
    attributed: dict[int, int] = field(default_factory=dict[int, int])
    owed: int = 0
    late: dict[int, int] = field(default_factory=dict[int, int])
    has_begun: bool = False  # a counter is compared with an earlier one, or with zero

    def observe(self, at_ms: int, reading: Reading, hold_ms: int, blind_ms: int) -> None:
        """Take a reading of the whole node; the first one of a counter is where it begins."""
        if self.meter.kind is None and reading.kind is ReadingKind.COUNTER and not self.has_begun:
            self.meter = integrate.open_meter(0, 0, at_ms)
            self.meter.kind, self.meter.value = reading.kind, reading.value
            self.meter.read_at_ms = at_ms
        self.has_begun = True
        integrate.observe(self.meter, at_ms, reading, hold_ms, blind_ms)

    def attribute(self, start_ms: int, used: int) -> None:
        """A job was told to have used so much in a window."""
        minute_ms = minute_of(start_ms)
        if minute_ms < minute_of(self.meter.window_start_ms):
            self.late[minute_ms] = self.late.get(minute_ms, 0) + used
        else:
            self.attributed[minute_ms] = self.attributed.get(minute_ms, 0) + used

    def settle(self, until_ms: int, hold_ms: int, limit: int, *, flush: bool) -> Iterator[Amount]:
        """Account for whole minutes before `until_ms`; `flush`: up to the last reading."""
        if flush:
            integrate.settle(self.meter, until_ms, hold_ms)
        records: list[UsageRecord] = []
        if self.meter.position_ms >= until_ms:
            integrate.cut(self.meter, records, limit=limit, horizon_ms=until_ms)
        if flush:
            integrate.close_window(self.meter, records)
        for record in records:
            yield from self._window(record)
        if flush:  # what no window of ours will come for
            for minute_ms, used in self.attributed.items():
                self.late[minute_ms] = self.late.get(minute_ms, 0) + used
            self.attributed = {}
        yield from self._settle_late(until_ms)

    def note_down(self, start_ms: int, end_ms: int) -> Iterator[Amount]:
        """The machine was off: nothing was used, and nothing could be."""
        for since_ms, until_ms in windows(start_ms, end_ms):
            whole = self.capacity * (until_ms - since_ms)
            for account in (Account.CAPACITY, Account.DOWN):
                yield Amount(account, self.type, None, since_ms, until_ms, whole, 0)

    def restart(self, at_ms: int) -> None:
        """The machine was started then: its counters began at zero."""
        self.meter = integrate.open_meter(0, 0, at_ms)
        self.has_begun = True

    def forget(self, floor_ms: int) -> None:
        """What the jobs used before does not count any more."""
        kept = {at: used for at, used in self.attributed.items() if at >= minute_of(floor_ms)}
        self.attributed, self.late, self.owed = kept, {}, 0

    def _window(self, record: UsageRecord) -> Iterator[Amount]:
        start_ms, end_ms = record.start_ms, record.start_ms + record.length_ms
        jobs = self._of_jobs(end_ms)
        others = record.used - jobs
        if self.type is ResourceType.CPU:
            others -= self.owed
            self.owed = max(0, -others)
        others = max(0, others)
        whole = self.capacity * record.length_ms
        idle = whole - jobs - others
        for account, value in (
            (Account.CAPACITY, whole),
            (Account.UNATTRIBUTED, others),
            (Account.IDLE, max(0, idle)),
            (Account.EXCESS, max(0, -idle)),
        ):
            if value:
                yield Amount(account, self.type, None, start_ms, end_ms, value, record.observed_ms)

    def _of_jobs(self, end_ms: int) -> int:
        """What the jobs used in the minutes that begin before `end_ms`, each once."""
        minutes = [minute_ms for minute_ms in self.attributed if minute_ms < end_ms]
        return sum(self.attributed.pop(minute_ms) for minute_ms in minutes)

    def _settle_late(self, until_ms: int) -> Iterator[Amount]:
        """What is added to the jobs of a minute that was told is excess there."""
        late, self.late = self.late, {}
        for minute_ms, used in late.items():
            if self.type is ResourceType.CPU:
                self.owed += used
            if used:
                end_ms = max(minute_ms + 1, min(minute_ms + MINUTE_MS, until_ms))
                yield Amount(Account.EXCESS, self.type, None, minute_ms, end_ms, used, 0)
