"""Reads the tables of npu-smi by their headings. Pure; never raises on any text.

Columns are found by name, never by offset: new versions widen them, add some, and lose the
space between two. What does not fit is passed over.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from agent.samplers.ascend.keyvalues import number_in, percent_in

_MAX_LINES = 20_000
_MAP_HEADING = re.compile(r"NPU ID|Slot ID|Chip ID|Chip Logic ID|Chip Phy-ID|Chip Name")
_BUS = re.compile(r"[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-9a-fA-F]")
_FREE_OF_TOTAL = re.compile(r"[|\s]*(?:\d{1,6}|NA)/(\d{1,6})\s", re.ASCII)
_VNPU_HEADING = re.compile(r"Vnpu ID.*Template Name")


class MappedChip(NamedTuple):
    """A row of `info -m`; a column that the tool does not have is None."""

    card: int
    chip: int
    logic: int | None
    phy: int | None
    name: str


class TableChip(NamedTuple):
    """A chip in the table of `info`."""

    card: int
    chip: int
    bus: str
    percent: int | None  # of its AI cores


class TableVnpu(NamedTuple):
    """A row of `info -t info-vnpu`."""

    number: int
    template: str


def chip_map(text: str) -> Sequence[MappedChip]:
    """`info -m`: every chip that computes; the controllers (`Mcu`, `-`) are left out."""
    columns: Sequence[str] = ()
    found: list[MappedChip] = []
    for line in text.splitlines()[:_MAX_LINES]:
        headings = _MAP_HEADING.findall(line)
        if {"NPU ID", "Chip ID"} <= set(headings):
            columns = headings
        elif columns and (chip := _mapped(columns, line)):
            found.append(chip)
    return found


def _mapped(columns: Sequence[str], line: str) -> MappedChip | None:
    words = line.split(None, len(columns) - 1)
    if len(words) < len(columns):
        return None
    row = dict(zip(columns, words, strict=True))
    card, chip = number_in(row["NPU ID"]), number_in(row["Chip ID"])
    logic = number_in(row.get("Chip Logic ID", ""))
    phy = number_in(row.get("Chip Phy-ID", ""))
    name = row.get("Chip Name", "").strip()
    if card is None or chip is None or (logic is None and phy is None) or name.lower() == "mcu":
        return None
    return MappedChip(card, chip, logic if "Chip Logic ID" in row else phy, phy, name)


def info_table(text: str) -> Sequence[TableChip]:
    """`info`: the chips of its first table, each under the card above it."""
    card: int | None = None
    has_percent = False
    found: list[TableChip] = []
    for cells in _rows(text):
        if "Process id" in " ".join(cells):
            break
        first = cells[0].split()
        if first[:1] == ["Chip"]:
            has_percent = len(cells) > 2 and cells[2].lstrip().startswith("AICore(%)")
        elif len(cells) > 2 and first and (bus := _BUS.fullmatch(cells[1].strip())):
            chip = number_in(first[0])
            if card is not None and chip is not None:
                percent = percent_in((cells[2].split() or [""])[0]) if has_percent else None
                found.append(TableChip(card, chip, bus[0], percent))
        elif len(cells) > 2 and len(first) > 1:
            card = number_in(first[0])
    return found


def _rows(text: str) -> Iterator[Sequence[str]]:
    for line in map(str.strip, text.splitlines()[:_MAX_LINES]):
        if line.startswith("|") and line.count("|") > 1 and not line.startswith("|="):
            yield line.strip("|").split("|")


def vnpus(text: str) -> Sequence[TableVnpu]:
    """`info -t info-vnpu`: the vNPUs of one chip; [] also where it has nothing to say."""
    found: list[TableVnpu] = []
    is_list = False
    for line in text.splitlines()[:_MAX_LINES]:
        if _VNPU_HEADING.search(line):
            is_list = True
        elif is_list:
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            number = number_in(cells[0])
            if number is not None and len(cells) > 1 and cells[-1]:
                found.append(TableVnpu(number, cells[-1]))
    return found


def total_aicores(text: str) -> int | None:
    """`info -t info-vnpu`: how many AI cores the chip has, from its column `Free/Total`."""
    is_next = False
    for line in text.splitlines()[:_MAX_LINES]:
        if is_next and (match := _FREE_OF_TOTAL.match(line)):
            return int(match[1]) or None
        is_next = is_next or "AICORE" in line
    return None


def percents(chips: Sequence[TableChip]) -> Mapping[tuple[int, int], int]:
    """Per cent by card and chip, where the table says it."""
    return {(chip.card, chip.chip): chip.percent for chip in chips if chip.percent is not None}
