"""Quantities as people say them (500m, 2 cores, 64Gi, 4 devices) in the API's units."""

import re
from collections.abc import Mapping
from decimal import Decimal

from aggregator.admin.errors import UsageError
from aggregator.rating.money import plain
from aggregator.rating.price import EXACT

_QUANTITY = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)([A-Za-z]*)")
_MI: Mapping[str, Decimal] = {
    "Mi": Decimal(1),
    "Gi": Decimal(1024),
    "Ti": Decimal(1024**2),
    "Ki": EXACT.divide(Decimal(1), Decimal(1024)),
}
_SUFFIXES: Mapping[str, Mapping[str, Decimal]] = {
    "cpu": {"m": Decimal(1), "": Decimal(1000)},
    "mem": _MI,
    "storage": _MI,
    "gpu": {"": Decimal(1)},
    "npu": {"": Decimal(1)},
}
_EXAMPLES = {"cpu": "500m or 2 (cores)", "mem": "512Mi or 64Gi", "storage": "512Mi or 2Ti"}


def api_units(type_: str, text: str, option: str) -> str:
    """The quantity in m, Mi or devices, exactly; UsageError names the option."""
    suffixes = _SUFFIXES.get(type_)
    if suffixes is None:
        raise UsageError(f"{option}: {type_!r} is none of {', '.join(_SUFFIXES)}")
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in suffixes:
        raise UsageError(f"{option}: {text!r} is no quantity like {_EXAMPLES.get(type_, '4')}")
    return plain(EXACT.multiply(Decimal(match[1]), suffixes[match[2]]))
