"""What npu-smi tells: the second best, since each question is a process.

- One process at a time, and a round of questions no sooner than 10 s after the last one:
  the vendor asks not to call it often.
- Utilisation by `-t usages`, one process per card; where none of the cards answers to
  that (an old tool), by the table of `info`.
- It knows no utilisation of a vNPU.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from agent.errors import SamplerError
from agent.samplers.ascend import keyvalues, tables
from agent.samplers.ascend.chips import (
    Chip,
    Place,
    Vnpu,
    bus_in,
    die_in,
    model_of,
    template_aicores,
)
from agent.samplers.ascend.runner import NpuSmi
from agent.samplers.ascend.source import Look
from agent.samplers.ascend.tables import MappedChip

_T = TypeVar("_T")

_MAX_CHIPS = 256
_MAX_FAILURES = 3
_DAVINCI = re.compile(r"davinci(\d{1,4})", re.ASCII)


class NpuSmiSource:
    """Asks npu-smi; `device_files` lists the names in /dev."""

    every_seconds = 10.0
    inventory_seconds = 60.0

    def __init__(self, tool: NpuSmi, device_files: Callable[[], Sequence[str]]) -> None:
        """Ask nothing yet."""
        self._tool = tool
        self._device_files = device_files
        self._known: dict[MappedChip, Chip] = {}
        self._silent: dict[MappedChip, int] = {}  # how often it did not say who it is

    def chips(self) -> Sequence[Chip]:
        """See `NpuSource`."""
        rows = tables.chip_map(self._tool.run("info", "-m"))[:_MAX_CHIPS]
        if not rows:
            raise SamplerError("npu-smi info -m names no NPU")
        phys = self._physical(rows)
        found = ((row, self._known.get(row) or self._identify(row)) for row in rows)
        self._known = {row: self._cut(row, chip) for row, chip in found if chip}
        if not self._known:
            raise SamplerError("npu-smi info -t board tells of no chip who it is")
        return [replace(chip, phy=phys.get(row)) for row, chip in self._known.items()]

    def look(self, chips: Sequence[Chip]) -> Mapping[Place, Look]:
        """See `NpuSource`."""
        whole = [chip for chip in chips if not chip.vnpus]
        percents: dict[Place, int] = {}
        failures: list[SamplerError] = []
        for card, places in _by_card(whole):
            try:
                text = self._tool.run("info", "-t", "usages", "-i", str(card))
            except SamplerError as error:
                failures.append(error)
                if len(failures) >= _MAX_FAILURES:
                    break  # not to wait for each of eight cards in vain
            else:
                percents |= _by_place(keyvalues.utilisations(text), places)
        if whole and not percents:
            percents = self._look_at_table(failures)
        return {chip.place: Look(percents.get(chip.place)) for chip in whole}

    def processes(self, chips: Sequence[Chip]) -> Mapping[Place, frozenset[int]]:
        """See `NpuSource`."""
        found: dict[Place, frozenset[int]] = {}
        for card, places in _by_card(chips):
            try:
                text = self._tool.run("info", "-t", "proc-mem", "-i", str(card))
            except SamplerError:
                continue
            found |= _by_place(keyvalues.processes(text), places)
        return found

    def _physical(self, rows: Sequence[MappedChip]) -> Mapping[MappedChip, int]:
        """The numbers of /dev/davinciN: the tool's column, else in the order of logic ids."""
        told = {row: row.phy for row in rows if row.phy is not None}
        if len(told) == len(rows):
            return told
        matches = [_DAVINCI.fullmatch(name) for name in self._device_files()]
        numbers = sorted({int(match[1]) for match in matches if match})
        ordered = sorted(rows, key=lambda row: row.logic or 0)
        return dict(zip(ordered, numbers, strict=True)) if len(numbers) == len(ordered) else {}

    def _identify(self, row: MappedChip) -> Chip | None:
        """Ask once who it is.

        What it is called must not change with the agent's luck: a chip that does not say it
        is left out for now; only at last its place must do.
        """
        try:
            board = keyvalues.board(self._ask(row, "board"))
        except SamplerError:
            self._silent[row] = self._silent.get(row, 0) + 1
            if self._silent[row] < _MAX_FAILURES:
                return None
            board = keyvalues.board("")
        return Chip(
            place=Place(row.card, row.chip),
            logic=row.logic,
            phy=None,
            model=model_of(row.name or board.name),
            die=die_in(board.die),
            bus=bus_in(board.bus),
        )

    def _cut(self, row: MappedChip, chip: Chip) -> Chip:
        """Add its vNPUs; those of before, where it does not say them now."""
        try:
            text = self._ask(row, "info-vnpu")
        except SamplerError:
            return chip
        parts = [(vnpu.number, template_aicores(vnpu.template)) for vnpu in tables.vnpus(text)]
        vnpus = tuple(Vnpu(number=number, aicores=aicores) for number, aicores in parts)
        return replace(chip, aicores=tables.total_aicores(text), vnpus=vnpus)

    def _ask(self, row: MappedChip, what: str) -> str:
        at = ("-i", str(row.card), "-c", str(row.chip))
        return self._tool.run("info", "-t", what, *at)

    def _look_at_table(self, failures: Sequence[SamplerError]) -> dict[Place, int]:
        percents = tables.percents(tables.info_table(self._tool.run("info")))
        if not percents and failures:
            raise failures[0]
        return {Place(*at): percent for at, percent in percents.items()}


def _by_card(chips: Sequence[Chip]) -> Iterator[tuple[int, Sequence[Place]]]:
    for card in dict.fromkeys(chip.place.card for chip in chips):
        yield card, [chip.place for chip in chips if chip.place.card == card]


def _by_place(answer: Mapping[int | None, _T], places: Sequence[Place]) -> dict[Place, _T]:
    """Give the chips of one card what is said of them; an unnumbered answer is the only one's."""
    if set(answer) == {None} and len(places) == 1:
        return {places[0]: answer[None]}
    return {place: answer[place.chip] for place in places if place.chip in answer}
