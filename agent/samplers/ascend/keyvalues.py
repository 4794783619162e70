"""Reads the `key : value` answers of `npu-smi info -t …`. Pure; never raises on any text.

An answer is about one card and holds a block for each chip. As a rule the line `Chip ID`
closes its block; where the first block begins with it, it opens them. Ascend950 prints no
such line at all: then the one block is about the card's only chip (None).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

_PAIR = re.compile(r"\s*([^:]{1,60}):(.*)")
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_PROCESS = re.compile(r"Process id:\s*(\d{1,9})\s+Process name:", re.ASCII)
_NO_PROCESS = "No process in device"
_CHIP = re.compile(r"\s*Chip ID\s*:(.*)")
_HEADING = re.compile(r"\s*(?:(?:NPU ID|Chip Count)\s*:.*)?")
_PERCENT_KEYS = ("NPU Utilization(%)", "Aicore Usage Rate(%)")
"""The whole of the chip where the driver knows it, else its AI cores; as in `dcmi`."""
_MAX_LINES = 20_000


class Block(NamedTuple):
    """What is said of one chip; `chip` None = of the card's only one."""

    chip: int | None
    lines: Sequence[str]

    def values(self) -> Mapping[str, str]:
        """Its pairs; of two with one key, the first."""
        pairs = [pair for line in self.lines if (pair := _PAIR.match(line))]
        return {pair[1].strip(): pair[2].strip() for pair in reversed(pairs)}


class Board(NamedTuple):
    """What tells a chip from others; "" = not said."""

    name: str
    die: str
    bus: str


def blocks(text: str) -> Iterator[Block]:
    """Cut an answer into the blocks of its chips; what belongs to none is left out."""
    lines = [line for line in text.splitlines()[:_MAX_LINES] if not _HEADING.fullmatch(line)]
    marks = [at for at, line in enumerate(lines) if _CHIP.fullmatch(line)]
    if not marks:
        yield Block(None, lines)
    closes = bool(marks) and marks[0] > 0
    for begin, end in pairwise([-1, *marks] if closes else [*marks, len(lines)]):
        match = _CHIP.fullmatch(lines[end if closes else begin])
        chip = number_in(match[1]) if match else None
        if chip is not None:
            yield Block(chip, lines[begin + 1 : end])


def number_in(value: str) -> int | None:
    """A whole number that stands alone; None = NA, -, or anything else."""
    value = value.strip()
    return int(value) if _NUMBER.fullmatch(value) else None


def percent_in(value: str) -> int | None:
    """The same from 0 to 100."""
    number = number_in(value)
    return number if number is not None and number <= 100 else None


def utilisations(text: str) -> Mapping[int | None, int]:
    """`-t usages`: per cent by chip; what is not said is absent."""
    found: dict[int | None, int] = {}
    for block in blocks(text):
        values = block.values()
        percents = [percent_in(values.get(key, "")) for key in _PERCENT_KEYS]
        percent = next((percent for percent in percents if percent is not None), None)
        if percent is not None:
            found.setdefault(block.chip, percent)
    return found


def board(text: str) -> Board:
    """`-t board -i N -c C`: every line is of the one chip that was asked for."""
    values = Block(None, text.splitlines()[:_MAX_LINES]).values()
    die = values.get("VDie ID") or values.get("Die ID") or values.get("DDie ID") or ""
    return Board(values.get("Chip Name", ""), die, values.get("PCIe Bus Info", ""))


def processes(text: str) -> Mapping[int | None, frozenset[int]]:
    """`-t proc-mem`: pids by chip; a chip of which nothing is said is absent."""
    found: dict[int | None, frozenset[int]] = {}
    for block in blocks(text):
        pids = {int(match[1]) for line in block.lines for match in _PROCESS.finditer(line)}
        if pids or any(_NO_PROCESS in line for line in block.lines):
            found[block.chip] = found.get(block.chip, frozenset()) | pids
    return found
