"""Which definitions both sides of a connection have. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Which numbers a batch defines, and which runs it ends: known to both once it is acked."""

    runs: Sequence[int] = ()
    meters: Sequence[tuple[int, int]] = ()  # (run, meter)
    ended: Sequence[int] = ()

    @property
    def definitions(self) -> int:
        """How many are defined."""
        return len(self.runs) + len(self.meters)


NOTHING = Named()


@dataclass(slots=True)
class Known:
    """The definitions that a connection has acked: run -> its meters.

    An ended run and its meters are dropped, so a long connection does not grow.
    """

    meters_of: dict[int, set[int]] = field(default_factory=dict[int, set[int]])
    changes: int = 0
    """Goes up with every change."""

    def learn(self, named: Named) -> None:
        """A batch was acked."""
        if named is NOTHING:
            return
        self.changes += 1
        for run in named.runs:
            self.meters_of.setdefault(run, set())
        for run, meter in named.meters:
            self.meters_of.setdefault(run, set()).add(meter)
        for run in named.ended:
            self.meters_of.pop(run, None)

    def forget(self) -> None:
        """The other side knows nothing any more."""
        self.changes += 1
        self.meters_of.clear()

    def has_run(self, run: int) -> bool:
        """Whether a run need not be defined again."""
        return run in self.meters_of

    def has_meter(self, run: int, meter: int) -> bool:
        """Whether a meter need not be defined again."""
        return meter in self.meters_of.get(run, ())

    def has_all(self, runs: Iterable[int], meters: Iterable[tuple[int, int]]) -> bool:
        """Whether none of these need be defined again."""
        return all(run in self.meters_of for run in runs) and all(
            self.has_meter(run, meter) for run, meter in meters
        )
