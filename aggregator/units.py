"""THE table of units: how many base units one unit of the APIs is.

Every quantity inside is an integer in base unit x millisecond; whoever shows one divides
by `base_units x MS_PER_HOUR`, once, when rendering.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import lcm
from types import MappingProxyType
from typing import Final

from aggregator.model import ResourceType

MS_PER_HOUR = 3_600_000
DEVICE_UNITS = 126_000
"""Base units of one whole device: divisible by 7, 8, 9, 16 and 1000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit as the APIs show it."""

    name: str
    base_units: int
    """How many base units make one of it."""
    unit_hour: int = field(init=False)
    """Base unit x ms in one unit-hour: what a price refers to."""

    def __post_init__(self) -> None:
        """Reckon once what every figure is divided by."""
        object.__setattr__(self, "unit_hour", self.base_units * MS_PER_HOUR)


UNITS: Mapping[str, Unit] = MappingProxyType(
    {
        ResourceType.CPU: Unit(name="m", base_units=1),
        ResourceType.MEM: Unit(name="Mi", base_units=1024),
        ResourceType.GPU: Unit(name="number", base_units=DEVICE_UNITS),
        ResourceType.NPU: Unit(name="number", base_units=DEVICE_UNITS),
        ResourceType.STORAGE: Unit(name="Mi", base_units=1024),
    }
)

COMMON: Final = Unit(name="", base_units=lcm(*(each.base_units for each in UNITS.values())))
"""What amounts of all types are added up in: each is a whole multiple of it."""


def common_factor(type_: str) -> int:
    """How many base units of COMMON make one of a type."""
    return COMMON.base_units // UNITS[type_].base_units
