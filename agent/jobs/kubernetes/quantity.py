"""Reads Kubernetes' quantities, exactly: integers all the way, no float. Pure.

The grammar is that of k8s.io/apimachinery (pkg/api/resource): a decimal number and at most
one suffix, of powers of ten (n u m k M G T P E), of 1024 (Ki Mi Gi Ti Pi Ei), or an exponent
(1e3, 5E-2). As there, what is finer than 10^-9 is rounded up, and so is every conversion.
"""

import re

NANO = 1_000_000_000
"""Quantities are kept as whole numbers of 10^-9: the finest that the grammar has."""

MAX_NANO = ((1 << 63) - 1) * NANO
"""Kubernetes has no greater quantity: what is written greater is this."""

_QUANTITY = re.compile(
    r"\+?(?P<whole>[0-9]{0,64})(?:\.(?P<part>[0-9]{0,64}))?"
    r"(?P<suffix>[numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,3})?",
    re.ASCII,
)
_POWERS_OF_TEN = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_POWERS_OF_TWO = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


def parse_quantity(text: str) -> int:
    """Read a quantity in whole 10^-9, rounded up.

    Raises:
        ValueError: it is none, or a negative one, which nobody can request.
    """
    match = _QUANTITY.fullmatch(text)
    if not match or not (match["whole"] or match["part"]):
        raise ValueError(f"{text[:80]!r} is no quantity")
    part = match["part"] or ""
    digits = int((match["whole"] or "0") + part)
    suffix = match["suffix"] or ""
    exponent = 9 - len(part) + _exponent(suffix)
    digits <<= _POWERS_OF_TWO.get(suffix, 0)
    nano = digits * 10**exponent if exponent >= 0 else _divide_up(digits, 10**-exponent)
    return min(nano, MAX_NANO)


def to_milli(nano: int) -> int:
    """Thousandths, rounded up: milli-cores of an amount of cores."""
    return _divide_up(nano, NANO // 1000)


def to_kib(nano: int) -> int:
    """KiB of an amount of bytes, rounded up."""
    return _divide_up(nano, NANO * 1024)


def _exponent(suffix: str) -> int:
    """The power of ten that a suffix stands for."""
    if suffix[:1] in {"e", "E"} and suffix[1:2] not in {"", "i"}:
        return int(suffix[1:])
    return _POWERS_OF_TEN.get(suffix, 0)


def _divide_up(number: int, by: int) -> int:
    return -(-number // by)
