"""The stub of libdcmi.so: built by gcc, turned by the functions that it exports beside dcmi's."""

import ctypes
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).parent / "dcmi_stub.c"
FOREVER = -1


class DcmiStub:
    """One build of it; `path` is what the agent is told."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.path = str(folder / f"libdcmi{''.join(flags)}.so")
        command = ["gcc", "-Wall", "-Werror", "-shared", "-fPIC", *flags, "-o", self.path]
        subprocess.run([*command, str(_SOURCE)], check=True)
        self._library = ctypes.CDLL(self.path)

    def reset(self) -> None:
        """No chip, no trouble, and no dcmi_init yet."""
        self._library.stub_reset()

    def add(
        self,
        card: int,
        chip: int = 0,
        *,
        logic: int | None = None,
        phy: int | None = None,
        name: str = "910B2",
        die: int | None = None,
        bus: int = 0,
        aicores: int = 20,
    ) -> None:
        """Plug in a chip; its ids are its card's unless they are given; die 0 = none burnt in."""
        self._library.stub_add(
            card,
            chip,
            card if logic is None else logic,
            card if phy is None else phy,
            name.encode(),
            0x1000 * (card + 1) + chip * 16 if die is None else die,
            bus,
            aicores,
        )

    def percent(self, card: int, chip: int = 0, *, npu: int = -1, core: int = 0) -> None:
        """Set both utilisations; npu -1 = the driver does not know that one."""
        self._library.stub_percent(card, chip, npu, core)

    def unit(self, card: int, chip: int, unit: int) -> None:
        """Make it a controller (1) or a processor (2)."""
        self._library.stub_unit(card, chip, unit)

    def vdev(self, card: int, chip: int, number: int, template: str, percent: int = 0) -> None:
        """Cut a vNPU from it."""
        self._library.stub_vdev(card, chip, number, template.encode(), percent)

    def no_vdevs(self, card: int, chip: int = 0) -> None:
        """Destroy its vNPUs."""
        self._library.stub_no_vdevs(card, chip)

    def process(self, card: int, chip: int, pid: int) -> None:
        """Let a process work on it."""
        self._library.stub_process(card, chip, pid)

    def fail(
        self, function: str, code: int, *, times: int = FOREVER, at: tuple[int, int] = (-1, -1)
    ) -> None:
        """Let calls of a function fail, of one chip if it is named; times 0 = no more."""
        self._library.stub_fail(function.encode(), *at, code, times)

    def calls(self) -> int:
        """How many calls there were."""
        return int(self._library.stub_calls())
