"""How prices, their changes and what is wrong with them look as rows."""

import shlex
from collections.abc import Sequence
from decimal import Decimal
from itertools import zip_longest

from aggregator.admin.client import Client, Json, Number, Record
from aggregator.admin.output import Column, Format, note, show
from aggregator.admin.prices import said
from aggregator.model import ResourceType
from aggregator.rating.ratio import RatioKey

BASE = "/api/admin/v1/ratios"

PRICES = (
    Column(title="KEY", field="key"),
    Column(title="VALUE", field="value", is_number=True, is_exact=True),
    Column(title="PER", field="per"),
    Column(title="IN FORCE", field="inForce"),
)
CHANGES = (
    Column(title="KEY", field="key"),
    Column(title="ACTION", field="action"),
    Column(title="OLD", field="old", is_number=True, is_exact=True),
    Column(title="NEW", field="new", is_number=True, is_exact=True),
    Column(title="FROM", field="effectiveAt"),
    Column(title="UNTIL", field="effectiveUntil"),
)
HISTORY = (
    Column(title="KEY", field="key"),
    Column(title="VALUE", field="value", is_number=True, is_exact=True),
    Column(title="PER", field="per"),
    Column(title="FROM", field="startsAt"),
    Column(title="TO", field="endsAt"),
    Column(title="SET BY", field="createdBy"),
    Column(title="REASON", field="reason"),
    Column(title="CLOSED BY", field="closedBy"),
)
FINDINGS = (
    Column(title="FINDING", field="finding"),
    Column(title="KEY OR USAGE", field="subject"),
    Column(title="ITEMS", field="items", is_number=True),
    Column(title="UNIT-HOURS", field="hours", is_number=True),
    Column(title="WHAT TO KNOW", field="detail"),
)


def scheduled_prices(client: Client) -> list[Record]:
    """The prices in force, from the next minute on, or later, exactly, by key and start.

    An end at which another price begins is that one's start, and not said again; what holds
    from the next minute on holds as soon as may be.
    """
    listed = client.get_list(BASE, scheduled="true")
    found: list[Record] = []
    for each, follower in zip_longest(listed, listed[1:]):
        is_followed = (
            follower is not None
            and follower["key"] == each["key"]
            and follower["startsAt"] == each["endsAt"]
        )
        start = each["startsAt"] if each["isScheduled"] else None
        found.append(each | {"startsAt": start, "endsAt": None if is_followed else each["endsAt"]})
    return found


def said_row(ratio: Record, per: str | None) -> Record:
    """A ratio with its value in the unit that was asked for, where that fits."""
    value, unit = said(str(ratio["key"]), Decimal(str(ratio["value"])), per)
    others = {name: field for name, field in ratio.items() if name not in {"key", "value"}}
    return {"key": ratio["key"], "value": Number(value), "per": unit, **others}


def show_prices(rows: Sequence[Record], how: Format) -> None:
    """Print declared prices; a table says which of them only begin, or end."""
    if how is Format.TABLE:
        rows = [{**row, "inForce": _in_force(row)} for row in rows]
    show(rows, PRICES, how)


def _in_force(row: Record) -> Json:
    """Since when is the history's to say; a start that is yet to come is UTC."""
    start, end = row["startsAt"], row["endsAt"]
    if start is None:
        return True if end is None else f"until {end}"
    if row["isScheduled"]:
        return f"from {start}" if end is None else f"from {start} until {end}"
    return f"from {str(start)[11:16]} UTC"


def show_changes(changes: Sequence[Record], how: Format) -> None:
    """Print what changes did, and each of their warnings."""
    rows = [
        {name: field for name, field in change.items() if name != "warnings"}
        | {"old": _exact(change["old"]), "new": _exact(change["new"])}
        for change in changes
    ]
    show(rows, CHANGES, how)
    for change in changes:
        warnings = change["warnings"]
        for warning in warnings if isinstance(warnings, list) else ():
            note(f"warning: {warning}")


def idle_row(found: Record) -> Record:
    """A key that prices nothing."""
    return _finding("matches nothing", found["key"], str(found["reason"]))


def shadow_row(found: Record) -> Record:
    """A price that hides another."""
    words = f"used instead of {found['insteadOf']}"
    return _finding("hides a price", found["key"], f"{words}; set {found['remedy']}")


def unpriced_row(found: Record) -> Record:
    """Usage without a price."""
    model = f":{found['model']}" if found["model"] else ""
    subject = f"{found['type']}{model}@{found['vc']}"
    priced_by = found["pricedBy"]
    words = f"priced by {priced_by} from now on" if priced_by else "no price is in force"
    if found["items"]:
        words += "; " + _remedy(found, str(priced_by or _plain_key(found)))
    times = {"firstAt": found["firstAt"], "lastAt": found["lastAt"]}
    counts = {"items": found["items"], "hours": found["hours"]}
    return _finding("unpriced", subject, words) | counts | times


def _plain_key(found: Record) -> str:
    """The key that would price a class, and others like it."""
    is_device = found["type"] in {"gpu", "npu"}
    model = str(found["model"]) if is_device and found["model"] else None
    return str(RatioKey(type=ResourceType(str(found["type"])), model=model))


def _remedy(found: Record, key: str) -> str:
    """What prices the past of a class, and where that counts."""
    named = shlex.quote(key)
    words = (
        f"its past (of items from {found['firstAt']} to {found['lastAt']}) is priced by `nodemeter"
        f" ratios set {named} PRICE --from TIME --retroactive` and `nodemeter rerate --key {named}`"
    )
    booked = ", which books what is of a closed month into the open one"
    return words + (booked if found["isClosed"] else "")


def _finding(kind: str, subject: Json, detail: str) -> Record:
    return {
        "finding": kind,
        "subject": subject,
        "items": None,
        "hours": None,
        "detail": detail,
        "firstAt": None,
        "lastAt": None,
    }


def _exact(value: Json) -> Json:
    return Number(value) if isinstance(value, str) else None
