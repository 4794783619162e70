"""What a stream may tell of a run, or of the accounts of its node. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

FOREVER_MS: Final = 1 << 53
"""A floor that no record reaches."""

FloorKey: TypeAlias = tuple[str, str | None]
"""Type and device of a meter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a stream may tell of a run, or of a node's accounts."""

    floors: Mapping[FloorKey, int] = field(default_factory=dict[FloorKey, int])
    """Ms since 1970; what is not named was never another stream's."""
    is_foreign: bool = False
    """It is another stream's."""

    def floor_ms(self, type_: str, device: str | None) -> int:
        """From when on records of a meter may be taken; 0: from ever."""
        return FOREVER_MS if self.is_foreign else self.floors.get((type_, device), 0)

    @property
    def highest_ms(self) -> int:
        """Through when something is durable; 0: nobody told anything before."""
        return max(self.floors.values(), default=0)


OWN: Final = Claim()
"""It was never another stream's."""
