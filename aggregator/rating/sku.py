"""What a unit-hour is sold as: the stable names of a ledger's lines. Pure."""

from aggregator.model import DEVICE_TYPES, ResourceType
from aggregator.units import UNITS

_PLAIN = "plain"


def unit_name(type_: ResourceType) -> str:
    """The unit of a type in lower case; devices are counted as devices."""
    return "device" if type_ in DEVICE_TYPES else UNITS[type_].name.lower()


def sku(type_: ResourceType, model: str | None) -> str:
    """`<type>-<device-or-plain>-<unit>-hour`: letters, digits and dots, joined by hyphens."""
    words = "".join(each if each.isalnum() or each == "." else " " for each in model or "").split()
    device = "-".join(words).lower() or _PLAIN
    return f"{type_.value}-{device}-{unit_name(type_)}-hour"
