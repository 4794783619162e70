"""One physical device: who holds how much of it when, and what is left over. Pure.

Its books begin at `opened_at_ms`, and everything before `position_ms` is told. What is
learnt of that time later is corrected by what is added: a start that was not known in time
is `excess`, an end `idle`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from agent.accounts.amount import Account, Amount, Interval, overlap_ms, windows
from agent.model import DEVICE_UNITS, ResourceType


@dataclass(slots=True)
class Holding:
    """A share of the device, `end_ms` None = still held."""

    units: int
    start_ms: int
    end_ms: int | None = None


@dataclass(slots=True)
class DeviceAccount:
    """See the module. `holdings` are by the number of the meter that bills them."""

    type: ResourceType
    device: str
    model: str
    opened_at_ms: int
    position_ms: int
    holdings: dict[int, Holding] = field(default_factory=dict[int, Holding])
    down: list[Interval] = field(default_factory=list[Interval])
    corrections: list[Amount] = field(default_factory=list[Amount])

    @property
    def is_down(self) -> bool:
        """Whether nobody could use it now."""
        return bool(self.down) and self.down[-1].end_ms is None

    def hold(self, number: int, units: int, start_ms: int) -> None:
        """A meter begins to bill a share."""
        self.holdings[number] = Holding(units, start_ms)
        since_ms = max(start_ms, self.opened_at_ms)
        self._correct(Account.EXCESS, units, since_ms, self.position_ms)

    def release(self, number: int, end_ms: int) -> None:
        """The meter has ended."""
        holding = self.holdings.get(number)
        if holding is None or holding.end_ms is not None:
            return
        holding.end_ms = end_ms
        since_ms = max(end_ms, holding.start_ms, self.opened_at_ms)
        self._correct(Account.IDLE, holding.units, since_ms, self.position_ms)

    def set_up(self, at_ms: int, *, is_up: bool) -> None:
        """It can be used from here on, or cannot."""
        if is_up and self.is_down:
            since_ms = self.down.pop().start_ms
            if at_ms > since_ms:
                self.down.append(Interval(since_ms, at_ms))
        elif not is_up and not self.is_down:
            self.down.append(Interval(max(at_ms, self.position_ms), None))

    def note_down(self, start_ms: int, end_ms: int) -> None:
        """It was not there meanwhile: the machine was off."""
        was_down = self.is_down
        self.set_up(start_ms, is_up=True)
        if end_ms > start_ms:
            self.down.append(Interval(start_ms, end_ms))
        if was_down:
            self.down.append(Interval(max(start_ms, end_ms), None))

    def settle(self, until_ms: int, unseen: Sequence[Interval]) -> Iterator[Amount]:
        """Account for everything before `until_ms`."""
        yield from self.corrections
        self.corrections = []
        for start_ms, end_ms in windows(self.position_ms, until_ms):
            observed_ms = end_ms - start_ms - overlap_ms(unseen, start_ms, end_ms)
            yield from self._window(start_ms, end_ms, observed_ms)
        if until_ms > self.position_ms:
            self._move(until_ms)

    def shift(self, by_ms: int) -> None:
        """Move with the clock, after everything before was told."""
        self.opened_at_ms += by_ms
        self.position_ms += by_ms
        for holding in self.holdings.values():
            holding.start_ms += by_ms
            holding.end_ms = None if holding.end_ms is None else holding.end_ms + by_ms
        self.down = [
            Interval(since + by_ms, None if until is None else until + by_ms)
            for since, until in self.down
        ]

    def _move(self, until_ms: int) -> None:
        """Forget what cannot matter any more."""
        self.position_ms = until_ms
        self.holdings = {
            number: holding
            for number, holding in self.holdings.items()
            if holding.end_ms is None or holding.end_ms > until_ms
        }
        self.down = [
            interval
            for interval in self.down
            if interval.end_ms is None or interval.end_ms > until_ms
        ]

    def _window(self, start_ms: int, end_ms: int, observed_ms: int) -> Iterator[Amount]:
        """Cut a window wherever something changes, and add up what is free there."""
        sums = dict.fromkeys((Account.IDLE, Account.DOWN, Account.EXCESS), 0)
        marks = sorted({start_ms, end_ms, *self._changes(start_ms, end_ms)})
        for since_ms, until_ms in pairwise(marks):
            free = DEVICE_UNITS - self._held(since_ms, until_ms)
            length_ms = until_ms - since_ms
            is_down = overlap_ms(self.down, since_ms, until_ms) > 0
            if free < 0:
                sums[Account.EXCESS] -= free * length_ms
            else:
                sums[Account.DOWN if is_down else Account.IDLE] += free * length_ms
        capacity = DEVICE_UNITS * (end_ms - start_ms)
        yield self._amount(Account.CAPACITY, start_ms, end_ms, capacity, observed_ms)
        for account, value in sums.items():
            if value:
                yield self._amount(account, start_ms, end_ms, value, observed_ms)

    def _changes(self, start_ms: int, end_ms: int) -> Iterator[int]:
        instants: Iterable[int | None] = (
            *(holding.start_ms for holding in self.holdings.values()),
            *(holding.end_ms for holding in self.holdings.values()),
            *(at for interval in self.down for at in interval),
        )
        yield from (at for at in instants if at is not None and start_ms < at < end_ms)

    def _held(self, start_ms: int, end_ms: int) -> int:
        return sum(
            holding.units
            for holding in self.holdings.values()
            if holding.start_ms <= start_ms and (holding.end_ms is None or holding.end_ms >= end_ms)
        )

    def _correct(self, account: Account, units: int, start_ms: int, end_ms: int) -> None:
        self.corrections += [
            self._amount(account, since_ms, until_ms, units * (until_ms - since_ms), 0)
            for since_ms, until_ms in windows(start_ms, end_ms)
        ]

    def _amount(
        self, account: Account, start_ms: int, end_ms: int, value: int, observed_ms: int
    ) -> Amount:
        return Amount(account, self.type, self.device, start_ms, end_ms, value, observed_ms)
