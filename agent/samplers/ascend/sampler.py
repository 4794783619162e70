"""Takes from the survey of the NPUs what the runs use of them; asks the driver nothing itself."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from agent.background import Background
from agent.errors import SamplerError
from agent.model import Device, MeterKey, Reading, ResourceType, Run, RunKey
from agent.procfs import ProcFs
from agent.samplers.ascend.survey import Survey, Surveyor
from agent.samplers.ascend.workers import working_runs
from agent.samplers.gauges import Gauges

_FRESH = 1.5
"""So many intervals old a survey may be and still say something about now."""
_DEAD_MS = 60_000
"""A driver that is silent for so long has lost its devices."""


class AscendSampler:
    """Reads the runs that hold NPUs; never waits for the driver."""

    name = "ascend"

    def __init__(
        self,
        surveyor: Surveyor,
        background: Background[Survey],
        *,
        interval_ms: int,
        monotonic_ms: Callable[[], int],
        procfs: ProcFs,
    ) -> None:
        """`background` asks `surveyor`; `interval_ms` lies between two samples of ours."""
        self._surveyor = surveyor
        self._background = background
        self._interval_ms = interval_ms
        self._monotonic_ms = monotonic_ms
        self._procfs = procfs
        self._gauges = Gauges(ResourceType.NPU)
        self._runs: dict[RunKey, Run] = {}  # those that hold a part of a shared device
        self._begun_ms = monotonic_ms()
        self._downs: tuple[Sequence[Device], Sequence[Device]] = ((), ())

    def devices(self) -> Sequence[Device]:
        """See `DeviceSampler`; a driver that is dead has lost them all."""
        survey = self._background.answer.value
        if survey is None:
            return ()
        if self._monotonic_ms() - survey.at_ms <= _DEAD_MS:
            return survey.devices
        if self._downs[0] is not survey.devices:
            downs = tuple(replace(device, is_up=False) for device in survey.devices)
            self._downs = (survey.devices, downs)
        return self._downs[1]

    def sample(self, runs: Sequence[Run]) -> Mapping[MeterKey, Reading]:
        """See `Sampler`."""
        survey = self._fresh_survey()
        self._gauges.note(runs)
        self._remember(runs)
        if survey is None:
            return {}
        devices = {device.id: device for device in survey.devices}
        return self._gauges.take(
            runs, devices, survey.gauges, lambda device: self._workers(device, survey)
        )

    def forget(self, keys: Collection[RunKey]) -> None:
        """See `Sampler`."""
        self._gauges.forget(keys)
        for key in keys:
            self._runs.pop(key, None)

    def close(self) -> None:
        """Ask the driver no more; for tests, which start many."""
        self._background.close()

    def _fresh_survey(self) -> Survey | None:
        """The newest one; None = the first is still under way."""
        answer = self._background.answer
        if answer.value is None and answer.failure is not None:
            raise SamplerError(f"the NPU driver does not answer: {answer.failure}")
        at_ms, took_ms = self._begun_ms, 0
        if answer.value is not None:
            at_ms, took_ms = answer.value.at_ms, answer.value.took_ms
        age_ms = self._monotonic_ms() - at_ms
        if age_ms > _FRESH * (self._interval_ms + took_ms):
            why = answer.failure or "no answer"
            raise SamplerError(f"the NPU driver says nothing for {age_ms // 1000} s: {why}")
        return answer.value

    def _remember(self, runs: Sequence[Run]) -> None:
        """Let the surveyor look for processes where a device is shared."""
        self._surveyor.shared = shared = self._gauges.shared()
        if not shared:
            self._runs.clear()
            return
        for run in runs:
            if any(share.id in shared for share in run.devices):
                self._runs[run.key] = run

    def _workers(self, device: str, survey: Survey) -> Collection[RunKey] | None:
        pids = survey.processes.get(device)
        holders = [self._runs[key] for key in self._gauges.holders(device) if key in self._runs]
        return None if pids is None else working_runs(pids, holders, self._procfs)
