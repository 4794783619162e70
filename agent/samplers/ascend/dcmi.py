"""What the driver's own library tells: the best source, a few system calls a question.

Utilisation is that of the whole chip (13: any engine busy), as other vendors' tools count
it; where the driver does not know it, that of the AI cores (2). Which of the two a chip
has is found out once: its meters never mix them. Both are of a moment; while a profiler
runs both are 0, which nothing tells from idle.
"""

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from agent.errors import SamplerError
from agent.samplers.ascend.chips import Chip, Place, Vnpu, die_of, model_of, template_aicores
from agent.samplers.ascend.dcmilib import (
    OK,
    UNINITIALISED,
    ChipInfo,
    DcmiLibrary,
    DieId,
    Fate,
    PcieInfo,
    ProcMem,
    SocTotal,
    VdevQuery,
    fate,
    reason,
)
from agent.samplers.ascend.source import Look

_NPU_TYPE = 0
_VDIE = 1
_UTILISATIONS = (13, 2)
_MAX_CARDS = 64
_MAX_CHIPS_OF_CARD = 8
_MAX_VNPUS = 32
_MAX_PROCESSES = 128
"""The driver fills in up to 64, whatever it is told; twice that, to be safe from the next one."""
_VDEV_MANAGEMENT = 52
_VDEV_RESOURCE, _TOTAL_RESOURCE, _VDEV_ACTIVITY = 0, 1, 5
_MAX_SILENCES = 5


class DcmiSource:
    """Asks libdcmi."""

    every_seconds = 2.0
    inventory_seconds = 10.0

    def __init__(self, library: DcmiLibrary) -> None:
        """Call nothing yet."""
        self._library = library
        self._is_initialised = False
        self._known: dict[Place, Chip] = {}  # by what cannot change of them
        self._silences: dict[Place, int] = {}
        self._utilisation: dict[Place, int] = {}  # index in `_UTILISATIONS`
        self._uncut: set[Place] = set()  # chips that cannot be cut into vNPUs
        self._failure: str | None = None  # of this look
        self._has_answered = False

    def chips(self) -> Sequence[Chip]:
        """See `NpuSource`."""
        self._initialise()
        cards = self._cards()
        self._begin()
        chips = [chip for card in cards for chip in self._chips_of(card)]
        if not chips and self._failure is not None:
            raise SamplerError(self._failure)
        for place in self._known.keys() - {chip.place for chip in chips}:
            self._forget(place)
        return chips

    def look(self, chips: Sequence[Chip]) -> Mapping[Place, Look]:
        """See `NpuSource`."""
        looks: dict[Place, Look] = {}
        self._begin()
        for chip in chips:
            if not chip.vnpus:
                looks[chip.place] = self._look_at_chip(chip.place)
            for vnpu in chip.vnpus:
                place = Place(chip.place.card, chip.place.chip, vnpu.number)
                looks[place] = self._look_at_vnpu(place)
        if self._failure is not None and not self._has_answered:
            raise SamplerError(self._failure)
        return looks

    def processes(self, chips: Sequence[Chip]) -> Mapping[Place, frozenset[int]]:
        """See `NpuSource`."""
        found = {chip.place: self._processes(chip.place) for chip in chips}
        return {place: pids for place, pids in found.items() if pids is not None}

    def _begin(self) -> None:
        self._failure, self._has_answered = None, False

    def _initialise(self) -> None:
        if not self._is_initialised:
            self._insist(self._library.call("dcmi_init"), "dcmi_init")
            self._is_initialised = True

    def _insist(self, code: int, function: str) -> None:
        """Give up where there is no answer to go on with."""
        if code == UNINITIALISED:
            self._is_initialised = False
        if code != OK:
            raise SamplerError(f"{function}: {reason(code)}")

    def _ask(self, function: str, place: Place, *arguments: object) -> Fate:
        code = self._library.call(function, place.card, place.chip, *arguments)
        if code == UNINITIALISED:
            self._is_initialised = False
        answer = fate(code)
        if answer is Fate.PASSING:
            self._failure = f"{function}: {reason(code)}"
        else:
            self._has_answered = True
        return answer

    # Chips -------------------------------------------------------------------------------

    def _cards(self) -> Sequence[int]:
        count, cards = ctypes.c_int(0), (ctypes.c_int * _MAX_CARDS)()
        function = "dcmi_get_card_list"
        code = self._library.call(function, ctypes.byref(count), cards, _MAX_CARDS)
        self._insist(code, function)
        return list(cards[: max(0, min(count.value, _MAX_CARDS))])

    def _chips_of(self, card: int) -> Iterator[Chip]:
        """Those that say who they are; those of before, where the card does not answer now."""
        count, mcu, cpu = ctypes.c_int(0), ctypes.c_int(-1), ctypes.c_int(-1)
        function = "dcmi_get_device_id_in_card"
        pointers = (ctypes.byref(count), ctypes.byref(mcu), ctypes.byref(cpu))
        code = self._library.call(function, card, *pointers)
        if fate(code) not in (Fate.OK, Fate.LOST):  # of a broken card the others know nothing
            self._failure = f"{function}: {reason(code)}"
            yield from [chip for place, chip in self._known.items() if place.card == card]
        if code != OK:
            return
        for number in range(max(0, min(count.value, _MAX_CHIPS_OF_CARD))):
            if chip := self._chip(Place(card, number)):
                yield chip

    def _chip(self, place: Place) -> Chip | None:
        """Who it is, and what may have changed of it; None = no NPU, or lost."""
        unit = ctypes.c_uint(_NPU_TYPE)
        answer = self._ask("dcmi_get_device_type", place, ctypes.byref(unit))
        if answer is Fate.LOST or (answer is Fate.OK and unit.value != _NPU_TYPE):
            return None
        known = self._known.get(place) or self._identify(place)
        if known is None:
            return None
        logic, phy = self._numbers(place)
        chip = self._cut(replace(known, logic=logic, phy=phy))
        self._known[place] = chip
        return chip

    def _numbers(self, place: Place) -> tuple[int | None, int | None]:
        """Logic and physical id: the driver may give out new ones after a reset."""
        logic, phy = ctypes.c_int(-1), ctypes.c_uint(0)
        code = self._library.call(
            "dcmi_get_device_logic_id", ctypes.byref(logic), place.card, place.chip
        )
        if code != OK or logic.value < 0:
            return None, None
        code = self._library.call(
            "dcmi_get_device_phyid_from_logicid", ctypes.c_uint(logic.value), ctypes.byref(phy)
        )
        return logic.value, phy.value if code == OK else None

    def _identify(self, place: Place) -> Chip | None:
        """Ask once who it is.

        What it is called must not change with the agent's luck: a chip that is not ready to
        say it is left out for now; only at last its place must do.
        """
        info, die, pcie = ChipInfo(), DieId(), PcieInfo()
        answers = [
            self._ask("dcmi_get_device_chip_info", place, ctypes.byref(info)),
            self._ask("dcmi_get_device_die_v2", place, _VDIE, ctypes.byref(die)),
            self._ask("dcmi_get_device_pcie_info_v2", place, ctypes.byref(pcie)),
        ]
        if Fate.LOST in answers:
            return None
        silences = self._silences[place] = self._silences.get(place, 0) + 1
        if Fate.PASSING in answers and silences < _MAX_SILENCES:
            return None
        self._silences.pop(place)
        return Chip(
            place=place,
            logic=None,
            phy=None,
            model=model_of(info.chip_name.decode(errors="replace")),
            die=die_of(list(die.soc_die)) if answers[1] is Fate.OK else None,
            bus=_bus(pcie) if answers[2] is Fate.OK else None,
            aicores=info.aicore_cnt or None,
        )

    def _forget(self, place: Place) -> None:
        """Another chip may come in its place."""
        self._known.pop(place, None)
        self._uncut.discard(place)
        for known in [known for known in self._utilisation if known[:2] == place[:2]]:
            del self._utilisation[known]

    # vNPUs -------------------------------------------------------------------------------

    def _cut(self, chip: Chip) -> Chip:
        """Add its vNPUs; those of before, where the driver does not say them now."""
        if chip.place in self._uncut:
            return chip
        total = SocTotal()
        answer = self._ask_vdev(chip.place, _TOTAL_RESOURCE, total)
        if answer is Fate.UNSUPPORTED:
            self._uncut.add(chip.place)
        if answer is not Fate.OK:
            return chip
        numbers = list(total.vdev_id[: min(total.vdev_num, _MAX_VNPUS)])
        before = {vnpu.number: vnpu for vnpu in chip.vnpus}
        vnpus = [self._vnpu(chip.place, number, before.get(number)) for number in numbers]
        aicores = _whole(total.computing.aic) or chip.aicores
        return replace(chip, aicores=aicores, vnpus=tuple(vnpus))

    def _vnpu(self, place: Place, number: int, before: Vnpu | None) -> Vnpu:
        query = VdevQuery(vdev_id=number)
        if self._ask_vdev(place, _VDEV_RESOURCE, query) is not Fate.OK:
            return before or Vnpu(number=number, aicores=None)
        name = query.name.decode(errors="replace")
        return Vnpu(number=number, aicores=template_aicores(name) or _whole(query.computing.aic))

    def _ask_vdev(self, place: Place, command: int, data: SocTotal | VdevQuery) -> Fate:
        size = ctypes.c_uint(ctypes.sizeof(data))
        arguments = (_VDEV_MANAGEMENT, command, ctypes.byref(data), ctypes.byref(size))
        return self._ask("dcmi_get_device_info", place, *arguments)

    # Looks -------------------------------------------------------------------------------

    def _look_at_chip(self, place: Place) -> Look:
        rate = ctypes.c_uint(0)
        for index in range(self._utilisation.get(place, 0), len(_UTILISATIONS)):
            kind = _UTILISATIONS[index]
            answer = self._ask("dcmi_get_device_utilization_rate", place, kind, ctypes.byref(rate))
            if answer is not Fate.UNSUPPORTED:
                return _look(answer, rate.value)
            self._utilisation[place] = index + 1
        return Look(None)

    def _look_at_vnpu(self, place: Place) -> Look:
        if self._utilisation.get(place):
            return Look(None)
        query = VdevQuery(vdev_id=place.vnpu)
        answer = self._ask_vdev(place, _VDEV_ACTIVITY, query)
        if answer is Fate.UNSUPPORTED:
            self._utilisation[place] = len(_UTILISATIONS)
        return _look(answer, query.computing.vdev_aicore_utilization)

    def _processes(self, place: Place) -> frozenset[int] | None:
        """Ask twice: the whole call fails where one process ends meanwhile."""
        for _ in range(2):
            count, found = ctypes.c_int(_MAX_PROCESSES), (ProcMem * _MAX_PROCESSES)()
            pointers = (found, ctypes.byref(count))
            answer = self._ask("dcmi_get_device_resource_info", place, *pointers)
            if answer is Fate.OK and 0 <= count.value <= _MAX_PROCESSES:
                return frozenset(process.proc_id for process in found[: count.value])
        return None


def _look(answer: Fate, percent: int) -> Look:
    is_known = answer is Fate.OK and percent <= 100
    return Look(percent if is_known else None, is_lost=answer is Fate.LOST)


def _whole(cores: float) -> int | None:
    """A number of cores that the driver keeps as a fraction; it says "none" as 0 or less."""
    return int(cores) if 0 < cores < 1000 else None


def _bus(pcie: PcieInfo) -> str | None:
    parts = (pcie.domain, pcie.bdf_busid, pcie.bdf_deviceid, pcie.bdf_funcid)
    if not any(parts) or min(parts) < 0:
        return None
    return "{:04x}:{:02x}:{:02x}.{:x}".format(*parts)
