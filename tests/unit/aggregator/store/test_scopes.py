"""Every query that shows what is somebody's takes the caller's scope, or says why not."""

import re
from importlib.resources import files

from aggregator.store.queries import parse

OWNED = re.compile(
    r"\b(?:FROM|JOIN)\s+(?:bill|charge|run|billing_user|booking|adjustment|daily|daily_class"
    r"|item_class|project_quota)\b"
)
CONDITION = re.compile(
    r"in_scope\(\s*(?:\w+\.)?user_id, (?:\w+\.)?vc, (?:\w+\.)?project,\s+"
    r"%\(scope_user_id\)s, %\(scope_vc\)s, %\(scope_project\)s\)"
)

EVERYBODYS = {
    "list_class_findings": "what has no price, for viewers of everything",
    "list_conservation": "all that a node has, for viewers of everything",
    "list_adjustments": "what was booked late, for viewers of everything",
    "list_segments": "of an item that get_item showed",
    "list_projects": "names, for viewers of everything",
    "is_known_project": "a name, for administrators",
    "list_live_quotas": "what is reserved, for viewers of everything",
    "list_quota_history": "what was reserved, for viewers of everything",
    "list_reserved": "what was reserved, for viewers of everything",
    "reconcile_bills": "sums of everything, for viewers of everything",
    "reconcile_conservation": "sums of everything, for viewers of everything",
    "reconcile_days": "sums of everything, for viewers of everything",
    "reconcile_usage": "sums of everything, for viewers of everything",
    "preview_rerate": "what an order would change, for viewers of everything",
    "list_period_totals": "sums of periods, for viewers of everything",
    "list_unpriced_usage": "what a close would leave without a price, for administrators",
    "get_beginning": "an instant, for viewers of everything",
    "get_first_usage": "an instant, for the use cases of periods",
    "get_first_booking": "an instant, for the use cases of periods",
    "summarise_bookings": "a digest, made by a close",
    "summarise_items": "a digest, made by a close",
}
"""Queries that show what is of all users together: their routes are not for scoped tokens."""


OF_THE_RATERS_FILE = {"preview_rerate"}
"""What the APIs ask that stands beside what it says of."""


def owned() -> dict[str, str]:
    """The queries of the APIs that read what belongs to somebody."""
    return {
        name: text
        for file in (files("aggregator.store") / "sql").iterdir()
        for name, text in parse(file.read_text(encoding="utf-8"))
        if file.name.startswith("api_") or name in OF_THE_RATERS_FILE
        if OWNED.search(text)
    }


def test_what_is_somebodys_is_shown_within_a_scope_only() -> None:
    """By the one condition, with the parameters that `Scope` gives."""
    without = {name for name, text in owned().items() if not CONDITION.search(text)}
    assert without == set(EVERYBODYS)


def test_the_test_finds_the_queries_that_it_is_about() -> None:
    """Those of the Bill API at least."""
    assert {"list_items", "count_unpriced_items", "list_users", "list_nodes"} <= set(owned())
