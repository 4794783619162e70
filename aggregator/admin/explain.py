"""`nodemeter bills explain`: how a fee came about, recomputed in front of the reader."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import typer

from aggregator.admin.client import Client, Json, Number, Record, record, records
from aggregator.admin.errors import AdminError, UsageError
from aggregator.admin.output import Column, Format, note, print_line, show, show_table
from aggregator.admin.session import examples, session_of
from aggregator.model import ResourceType
from aggregator.rating import money
from aggregator.rating.price import EXACT
from aggregator.units import UNITS, Unit

_SEGMENTS = (
    Column(title="HOUR", field="usedHour"),
    Column(title="KIND", field="kind"),
    Column(title="ALLOCATED", field="allocated", is_number=True),
    Column(title="USED", field="used", is_number=True),
    Column(title="EFFECTIVE", field="effective", is_number=True),
    Column(title="METHOD", field="method"),
    Column(title="BILLED", field="billed", is_number=True),
    Column(title="KEY", field="key"),
    Column(title="PRICE", field="price", is_number=True, is_exact=True),
    Column(title="AMOUNT", field="amount", is_number=True),
    Column(title="COUNTS IN", field="hour"),
)
_VERSIONS = (
    Column(title="KEY", field="key"),
    Column(title="PRICE", field="price", is_number=True, is_exact=True),
    Column(title="FROM", field="priceStartsAt"),
    Column(title="TO", field="priceEndsAt"),
    Column(title="SET AT", field="priceSetAt"),
    Column(title="SET BY", field="priceSetBy"),
    Column(title="REASON", field="priceReason"),
)
_QUANTITIES = ("allocated", "used", "effective", "billed")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sums:
    """The sums over all segments, exactly."""

    billed: int
    amount: Decimal


def explain(
    context: typer.Context,
    *,
    item: Annotated[
        str, typer.Argument(metavar="ID", help="Id of a bill item, or name or id of its job")
    ],
    type_: Annotated[
        str | None, typer.Option("--type", help="Where a job is named: cpu, mem, gpu, ...")
    ] = None,
) -> None:
    """Show how the fee of a bill item came about, and compute it again.

    Hour by hour: what was allocated, used and effective in unit-hours, what of it was billed by
    the method in force, at which price, who set that price, when and why; adjustments of closed
    periods and of re-rating are lines of their own. The exit status is 1 if the fee that the
    segments give is not the one that is printed.
    """
    session = session_of(context)
    asked = _item_id(session.client, item, type_)
    answer = session.client.get("/api/admin/v1/bills/explanation", id=asked)
    found = record(answer.body)
    segments = records(found["segments"])
    unit = UNITS[ResourceType(str(record(found["item"])["type"]))]
    if session.output is Format.TABLE:
        _show_item(record(found["item"]), unit)
        show_table([_row(each, unit) for each in segments], _SEGMENTS)
        _show_versions(segments)
    else:
        show([found] if session.output is Format.JSON else segments, _SEGMENTS, session.output)
    fee = _recomputed(found, segments, unit, is_told=session.output is Format.TABLE)
    if fee != float(str(found["fee"])):
        raise AdminError(f"the segments give {fee!r}, the bill says {found['fee']}")


def _item_id(client: Client, text: str, type_: str | None) -> str:
    """The id of an item that is named by it, or by a job that has one of the type only."""
    try:
        return str(UUID(text))
    except ValueError:
        pass
    found = client.get_list("/api/admin/v1/usages", job=text, type=type_)
    if not found:
        raise UsageError(f"no bill item has the id or the job {text!r}; see `nodemeter bills`")
    if len(found) > 1:
        lines = "\n".join(
            f"  {each['id']}  {each['type']}  from {each['startTime']}  on {each['node']}"
            for each in found[:20]
        )
        raise UsageError(f"{text!r} has several items; name one of them:\n{lines}")
    return str(found[0]["id"])


def _show_item(item: Record, unit: Unit) -> None:
    device = f" ({item['device']})" if item["device"] else ""
    print_line(f"Item      {item['id']}")
    print_line(f"Job       {item['jobId']} of {item['username']} in {item['vcName']}")
    print_line(f"Resource  {item['quota']} {unit.name} of {item['type']}{device} on {item['node']}")
    print_line(f"Time      {item['startTime']} to {item['endTime']}")
    print_line(f"Coverage  {item['coverage']} of its time was observed\n")


def _row(segment: Record, unit: Unit) -> Record:
    """A segment in unit-hours and money."""
    shown: Record = dict(segment)
    for name in _QUANTITIES:
        hours = money.usage(int(str(segment[name])), unit)
        shown[name] = Number(repr(money.number(hours)))
    shown["amount"] = Number(repr(money.number(money.fee(_decimal(segment["amount"]), unit))))
    shown["price"] = None if segment["price"] is None else Number(str(segment["price"]))
    shown["hour"] = None if segment["hour"] == segment["usedHour"] else segment["hour"]
    return shown


def _show_versions(segments: Sequence[Record]) -> None:
    versions = {str(each["ratioId"]): each for each in segments if each["key"] is not None}
    if versions:
        print_line("\nPrices:")
        rows = [{**each, "price": Number(str(each["price"]))} for each in versions.values()]
        show_table(rows, _VERSIONS)


def _recomputed(found: Record, segments: Sequence[Record], unit: Unit, *, is_told: bool) -> float:
    """The fee by the sums over the segments."""
    sums = _sums(segments)
    hours = money.usage(sums.billed, unit)
    told = [
        f"\nBilled    {sums.billed} / {unit.unit_hour} = {hours!r} unit-hours",
        f"Printed   {found['fee']}",
    ]
    if found["isMixed"]:
        fee = money.fee(sums.amount, unit)
        told.insert(1, f"Fee       {money.plain(sums.amount)} / {unit.unit_hour} = {fee!r}")
    elif found["price"] is None:
        fee = 0.0
        told.insert(1, "Fee       0, since no price was in force")
    else:
        fee = money.fee_at(hours, _decimal(found["price"]))
        told.insert(1, f"Fee       {hours!r} x {found['price']} = {fee!r}")
    for line in told if is_told else ():
        print_line(line)
    if not segments:
        note("nothing of it is rated yet")
    return fee


def _sums(segments: Sequence[Record]) -> _Sums:
    amount = Decimal(0)
    for each in segments:
        amount = EXACT.add(amount, _decimal(each["amount"]))
    return _Sums(billed=sum(int(str(each["billed"])) for each in segments), amount=amount)


def _decimal(value: Json) -> Decimal:
    return Decimal(str(value))


EXAMPLES = examples(
    "nodemeter bills explain 01234567-89ab-cdef-0123-456789abcdef",
    "nodemeter bills explain train-1a2b --type gpu",
)
