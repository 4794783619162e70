"""The sampler: what the daemon asks, answered from what the worker has seen last."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from agent.clock import TimeSource
from agent.context import NowMs
from agent.errors import SamplerError
from agent.model import Device, MeterKey, Reading, ReadingKind, ResourceType, Run, RunKey
from agent.samplers.nvidia.driver import Driver
from agent.samplers.nvidia.ledger import Ledger
from agent.samplers.nvidia.owners import Owners
from agent.samplers.nvidia.sharing import Divider
from agent.samplers.nvidia.state import DeviceState, DriverState
from agent.samplers.nvidia.survey import Facts, Surveyor
from agent.samplers.nvidia.worker import Worker

WAIT_SECONDS = 0.3
"""How long a look waits for the driver."""

HUNG_MS = 60_000
"""A driver that has not answered one call for so long has lost its devices."""

_NS_PER_MS = 1_000_000
_LEAST_PAUSE_MS = 1_000
_FAILED_PAUSE_MS = 2_000
_SAME_MS = 100  # two looks so close to each other share one of the driver's


class NvidiaSampler:
    """Reads the utilisation of NVIDIA GPUs, of the runs that hold them.

    All talk with the driver is the worker's; the lock is never held while it talks.
    `is_expected` says whether a driver that does not answer is a failure: where there is
    no GPU at all, it is none.
    """

    name = "nvidia"

    def __init__(
        self,
        driver: Driver,
        owners: Owners,
        time: TimeSource,
        now_ms: NowMs,
        *,
        interval_ms: int,
        is_expected: bool,
        told: Callable[[], None] = lambda: None,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        """Look every `interval_ms`, from `start` on; nobody waits longer than `wait_seconds`.

        `told` is called in the worker's thread when the devices have changed.
        """
        self._driver = driver
        self._surveyor = Surveyor(driver, interval_ms)
        self._divider = Divider(driver, owners, interval_ms)
        self._time = time
        self._now_ms = now_ms
        self._interval_ms = interval_ms
        self._is_expected = is_expected
        self._told = told
        self._wait_seconds = wait_seconds
        self._worker = Worker("nvidia", self._look, time)
        self._lock = threading.Lock()
        self._ledger = Ledger(interval_ms)
        self._energy: dict[str, tuple[int, int]] = {}  # counted before the last reset, last seen
        self._devices = driver.devices
        self._hung: tuple[Sequence[Device], Sequence[Device]] = ((), ())
        self._failure: str | None = None
        self._looked_ms: int | None = None
        self._told_ms = 0
        self._wants_migs = False
        self._state = DriverState(version=None, looked_at_ms=None, failure=None, devices=())

    def start(self, wait_seconds: float) -> None:
        """Begin to look, and wait a little for the first answer."""
        self._worker.start()
        self._worker.ask(wait_seconds)

    def close(self) -> None:
        """Look no more; for tests, which start many."""
        self._worker.close()

    # What the daemon asks ----------------------------------------------------------------

    @property
    def must_restart(self) -> bool:
        """The driver was replaced: only another process can load the new library."""
        return self._driver.must_restart

    def devices(self) -> Sequence[Device]:
        """See `DeviceSampler`."""
        devices = self._devices
        if self._worker.busy_ms < HUNG_MS:
            return devices
        if self._hung[0] is not devices:
            self._hung = (devices, tuple(replace(device, is_up=False) for device in devices))
        return self._hung[1]

    def state(self) -> DriverState:
        """What was seen last, for people to look at."""
        return replace(self._state, failure=self._fault())

    def sample(self, runs: Sequence[Run]) -> Mapping[MeterKey, Reading]:
        """See `Sampler`; an ended run is told of up to its end."""
        holders = [run for run in runs if any(_is_gpu(share.type) for share in run.devices)]
        with self._lock:
            self._ledger.name(runs, self._boot_ms(), self._now_ms())
        if holders:
            self._refresh(holders)
        if (fault := self._fault()) and self._is_expected:
            raise SamplerError(fault)
        now_ms = self._boot_ms()
        with self._lock:
            return {
                MeterKey(run.key, ResourceType.GPU, device): Reading(
                    kind=ReadingKind.AVERAGE, value=mean
                )
                for run in holders
                for device, mean in self._ledger.read(run, now_ms).items()
            }

    def forget(self, keys: Collection[RunKey]) -> None:
        """See `Sampler`."""
        with self._lock:
            self._ledger.forget(keys)

    def _refresh(self, holders: Sequence[Run]) -> None:
        """Have the driver looked at now, unless that was just done."""
        known = {device.id for device in self._devices}
        self._wants_migs = any(
            share.id.startswith("MIG-") and share.id not in known
            for run in holders
            for share in run.devices
        )
        if self._looked_ms is None or self._boot_ms() - self._looked_ms >= _SAME_MS:
            self._worker.ask(self._wait_seconds)

    def _fault(self) -> str | None:
        if (busy_ms := self._worker.busy_ms) > self._interval_ms:
            return f"NVIDIA's driver has not answered for {busy_ms // 1000} s"
        return self._failure

    # The worker's thread -----------------------------------------------------------------

    def _look(self, *, is_asked: bool) -> float:
        """Look once; returns in how many seconds it wants to look again."""
        now_ms = self._boot_ms()
        is_full = is_asked or now_ms - self._told_ms >= self._interval_ms
        try:
            self._driver.prepare(now_ms, wants_migs=self._wants_migs)
            now_ms = self._boot_ms()  # to begin a session may take many seconds
            measured = self._surveyor.measure(now_ms)
            with self._lock:
                for device, spans in measured.items():
                    self._ledger.measure(device, spans)
            if is_full:
                self._attribute(now_ms)
                self._tell(now_ms, self._surveyor.facts(now_ms))
            self._failure = None
            self._is_expected = True
            self._looked_ms = now_ms
        except SamplerError as error:
            self._failure = str(error)
        except Exception as error:
            self._failure = f"an unforeseen failure, see the log: {type(error).__name__}"
            raise
        if self._devices is not self._driver.devices:
            self._devices = self._driver.devices
            self._told()
        return self._pause_ms() / 1000

    def _attribute(self, now_ms: int) -> None:
        with self._lock:
            shared = self._ledger.shared(now_ms)
        splits = self._divider.divide(shared, now_ms, self._time.wall_ns() // 1000)
        with self._lock:
            self._ledger.attribute(now_ms, splits)

    def _tell(self, now_ms: int, facts: Mapping[str, Facts]) -> None:
        """Note what was seen, for people."""
        with self._lock:
            busy = {
                device.id: self._ledger.mean(device.id, now_ms - self._interval_ms, now_ms)
                for device in self._driver.devices
            }
        troubles = self._driver.troubles()
        self._told_ms = now_ms
        self._state = DriverState(
            version=self._driver.version,
            looked_at_ms=self._now_ms(),
            failure=None,
            devices=tuple(
                self._describe(device, busy[device.id], facts.get(device.id), troubles)
                for device in self._driver.devices
            ),
        )

    def _describe(
        self, device: Device, busy: int | None, facts: Facts | None, troubles: Mapping[str, str]
    ) -> DeviceState:
        memory = facts.memory if facts else None
        return DeviceState(
            id=device.id,
            model=device.model,
            is_up=device.is_up,
            busy=busy if device.is_up else None,
            memory_used_bytes=memory.used if memory else None,
            memory_total_bytes=memory.total if memory else None,
            energy_mj=self._count_energy(device.id, facts.energy_mj if facts else None),
            trouble=troubles.get(device.id),
        )

    def _count_energy(self, device: str, energy_mj: int | None) -> int | None:
        """Energy since the driver was first loaded: it begins at 0 with every load."""
        before_mj, last_mj = self._energy.get(device, (0, 0))
        if energy_mj is None:
            return before_mj + last_mj if device in self._energy else None
        if energy_mj < last_mj:
            before_mj += last_mj
        self._energy[device] = before_mj, energy_mj
        return before_mj + energy_mj

    def _pause_ms(self) -> int:
        """The daemon asks once an interval; in between a short buffer may have to be emptied."""
        if self._failure is not None:
            return _FAILED_PAUSE_MS
        pause_ms = self._interval_ms * 5 // 4
        with self._lock:
            if self._ledger.is_empty:
                return pause_ms
        wanted = [gpu.ring.wanted_ms for gpu in self._driver.living() if gpu.ring.wanted_ms]
        return max(_LEAST_PAUSE_MS, min([pause_ms, *wanted]))

    def _boot_ms(self) -> int:
        return self._time.boottime_ns() // _NS_PER_MS


def _is_gpu(type_: ResourceType) -> bool:
    return type_ is ResourceType.GPU
