"""The digest of a closed period: SHA-256 of a canonical form that anybody can compute. Pure.

    form    = "nodemeter period 1" LF month LF bucket*
    bucket  = kind TAB name TAB count TAB hash LF

Buckets come in the order of kind (`booking` before `item`) and name. `hash` is the SHA-256,
in hexadecimal, of the bucket's lines, joined by LF; a line is its values, joined by TAB. A
bucket of bookings is an hour, its name the hour's seconds since 1970; a line of it is what
counts in that hour: a charge or an adjustment (`summarise_bookings` lists the values). A
bucket of items is named by the first two digits of their ids; a line of it is what an item
comes to in the period (`summarise_items`). Instants are milliseconds since 1970, numbers
decimal without idle zeros, ids lower-case UUIDs.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from aggregator.model import Period
from aggregator.rating.month import month_name

_FORM = "nodemeter period 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A part of the form: so many lines, and their hash."""

    kind: Literal["booking", "item"]
    name: str
    line_count: int
    hash: str


class PeriodDigest:
    """The digest of a period whose buckets are added in their order."""

    def __init__(self, period: Period) -> None:
        """Begin the form."""
        self._hash = hashlib.sha256(f"{_FORM}\n{month_name(period)}\n".encode())

    def add(self, buckets: Iterable[Bucket]) -> None:
        """Add the next buckets."""
        for each in buckets:
            line = f"{each.kind}\t{each.name}\t{each.line_count}\t{each.hash}\n"
            self._hash.update(line.encode())

    def text(self) -> str:
        """The digest, in hexadecimal."""
        return self._hash.hexdigest()
