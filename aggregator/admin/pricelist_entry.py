"""A line of a price list as it was written, not yet understood."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from aggregator.admin.errors import UsageError

FIELDS = ("value", "per", "from", "to")
"""What a line may say of a key."""


class Kind(StrEnum):
    """How a price list is written."""

    CSV = "csv"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The texts of a line. `places` names where each of them stands; `where` the line."""

    key: str
    fields: Mapping[str, str]
    where: str
    places: Mapping[str, str]

    def place(self, column: str) -> str:
        """Where a field stands, as `prices.csv, line 3, column value`."""
        return self.places.get(column, self.where)

    def fault(self, column: str, reason: str) -> UsageError:
        """A fault of one of the fields."""
        return UsageError(f"{self.place(column)}: {reason}")
