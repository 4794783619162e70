"""What `ca list` shows of what was issued. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, TypeAlias

from aggregator.ca.ledger import Denied, Issued

COLUMNS: Final = ("node", "state", "not_before", "not_after", "how", "serial", "reason")

Row: TypeAlias = Mapping[str, str]


def rows_of(
    issued: Sequence[Issued], denied: Sequence[Denied], now: datetime, *, with_all: bool
) -> list[Row]:
    """A row for the newest certificate of each node, or for all; the aggregator is called so."""
    reasons = {each.serial: each.reason for each in denied}
    newest = {each.node: each for each in issued}
    shown = issued if with_all else list(newest.values())
    rows = [_row(each, reasons.get(each.serial), now) for each in shown]
    return sorted(rows, key=lambda row: (row["node"], row["not_before"]))


def _row(issued: Issued, reason: str | None, now: datetime) -> Row:
    state = "valid" if now < issued.ends_at() else "expired"
    return {
        "node": issued.node or "(aggregator)",
        "state": state if reason is None else "revoked",
        "not_before": issued.not_before,
        "not_after": issued.not_after,
        "how": issued.how,
        "serial": issued.serial,
        "reason": reason or "",
    }
