"""`nodemeter quote`: what a job of given size and length would cost."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from aggregator.admin.client import Record, record, records
from aggregator.admin.errors import UsageError
from aggregator.admin.output import Column, Format, note, print_line, show
from aggregator.admin.prices import PriceWordsError, to_value
from aggregator.admin.quantities import api_units
from aggregator.admin.session import examples, session_of
from aggregator.admin.times import sent
from aggregator.rating.money import plain

app = typer.Typer()

_LINES = (
    Column(title="TYPE", field="type"),
    Column(title="DEVICE", field="model"),
    Column(title="QUANTITY", field="quantity", is_number=True),
    Column(title="UNIT", field="unit"),
    Column(title="FROM", field="startsAt"),
    Column(title="TO", field="endsAt"),
    Column(title="UNIT-HOURS", field="usage", is_number=True),
    Column(title="KEY", field="key"),
    Column(title="PRICE", field="price", is_number=True),
    Column(title="FEE", field="fee", is_number=True),
)

Devices = Annotated[list[str] | None, typer.Option(metavar="MODEL=NUMBER", help="Or a number")]


@app.command(
    "quote",
    epilog=examples(
        'nodemeter quote --gpu "NVIDIA H200"=4 --cpu 32000m --mem 262144Mi --hours 12',
        "nodemeter quote --cpu 8 --mem 64Gi --hours 0.5 --vc research --at 2027-01-01T00:00:00Z",
    ),
)
def quote(
    context: typer.Context,
    *,
    gpu: Devices = None,
    npu: Devices = None,
    cpu: Annotated[str | None, typer.Option(help="32000m, or 32 (cores)")] = None,
    mem: Annotated[str | None, typer.Option(help="262144Mi, or 256Gi")] = None,
    storage: Annotated[str | None, typer.Option(help="512Gi, or 2Ti")] = None,
    hours: Annotated[str, typer.Option(help="How long it would run")],
    vc: Annotated[str | None, typer.Option(help="Virtual cluster")] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="When it would start; now if not said")
    ] = None,
) -> None:
    """Show what a job would cost, line by line.

    By the rules of rating, at the price of each part of its time, scheduled ones too. The exit
    status is 1 if something has no price: then there is no total.
    """
    resources: list[Record] = [
        *_devices("gpu", gpu or ()),
        *_devices("npu", npu or ()),
        *_sizes({"cpu": cpu, "mem": mem, "storage": storage}),
    ]
    if not resources:
        raise UsageError("say what the job needs: --gpu, --npu, --cpu, --mem or --storage")
    session = session_of(context)
    body = {"resources": resources, "hours": _hours(hours), "vc": vc, "startsAt": sent(at)}
    try:
        found = record(session.client.post("/api/admin/v1/quote", body).body)
    except UsageError as error:
        raise UsageError(_in_options(str(error), resources)) from error
    _show(found, session.output)
    if found["total"] is None:
        raise typer.Exit(1)


def _in_options(words: str, resources: Sequence[Record]) -> str:
    """What is wrong with the question, by the options that it was asked with."""
    words = words.replace("startsAt:", "--at")
    for number, each in enumerate(resources):
        words = re.sub(rf"resources\[{number}\](?:\.\w+)?:", f"--{each['type']}", words)
    return words


def _show(found: Record, how: Format) -> None:
    lines = records(found["lines"])
    if how is Format.JSON:
        show([found], _LINES, how)
    else:
        show([_row(line, part) for line in lines for part in records(line["parts"])], _LINES, how)
    for line in lines:
        warnings = line["warnings"]
        for warning in warnings if isinstance(warnings, list) else ():
            note(f"warning: {line['type']}: {warning}")
    if how is Format.TABLE and found["total"] is not None:
        print_line(f"\nTotal: {found['total']} {found['currency']}")
    elif found["total"] is None:
        note("there is no total: see `nodemeter ratios check` and `nodemeter ratios set`")


def _row(line: Record, part: Record) -> Record:
    named = {name: line[name] for name in ("type", "model", "quantity", "unit")}
    return named | part


def _devices(type_: str, texts: Sequence[str]) -> list[Record]:
    found: list[Record] = []
    for text in texts:
        model, equals, number = text.rpartition("=")
        quantity = api_units(type_, number, f"--{type_}")
        found.append({"type": type_, "model": model if equals else None, "quantity": quantity})
    return found


def _sizes(texts: Mapping[str, str | None]) -> list[Record]:
    return [
        {"type": name, "quantity": api_units(name, text, f"--{name}")}
        for name, text in texts.items()
        if text is not None
    ]


def _hours(text: str) -> str:
    try:
        return plain(to_value("", text, None))
    except PriceWordsError as error:
        raise UsageError(f"--hours {error}") from error
