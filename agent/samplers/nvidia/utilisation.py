"""How busy a GPU or a MIG device was since the last look, as spans of time.

- The driver's buffer of samples (NVML_GPU_UTILIZATION_SAMPLES) holds the last 2 to 20
  seconds, so it covers an interval rather than an instant; where it is shorter than the
  interval, `RingReader.wanted_ms` says how soon it has to be emptied.
- nvmlDeviceGetUtilizationRates, where there is no such buffer, or nothing new in it, holds
  for the time since the last look.
- A MIG device has neither: from Hopper on, GPM tells the time that its instance was busy.

The samples' own timestamps are of a wall clock that may be stepped: an instant is told by
how much older a sample is than the newest one, which is new.
"""

import ctypes
import struct
from collections.abc import Callable, Sequence

from agent.model import DEVICE_UNITS
from agent.samplers.nvidia.binding import Handle, MetricsGet
from agent.samplers.nvidia.library import Code, Library, NvmlError, Outcome
from agent.samplers.nvidia.timeline import Span

_UTILISATION_SAMPLES = 1
_DOUBLE = 0
_MAX_SAMPLES = 4096
_SAMPLE_BYTES = 16
_POINT_MS = 1_000  # what a single sample is known to hold for
_GRAPHICS_UTIL = 1
_GPM_VERSION = 1
_UNITS_PER_CENT = DEVICE_UNITS // 100
_GRAIN_US = 250_000

_Sample = tuple[int, int]
"""Microseconds of the driver's clock, per cent."""


class RingReader:
    """The buffer of one GPU."""

    def __init__(self) -> None:
        """Take everything that is in the buffer at first."""
        self._buffer = _Buffer()
        self._newest_us = 0
        self._ask_from_us = 0
        self.wanted_ms: int | None = None  # None = nothing is lost between two looks

    def read(self, library: Library, gpu: Handle, since_ms: int, now_ms: int) -> Sequence[Span]:
        """What is new since `since_ms`; [] = nothing.

        Raises:
            NvmlError: see `Library`.
        """
        found = self._buffer.read(library, gpu, self._ask_from_us)
        newest_us = self._newest_us
        new = sorted([one for one in found if one[0] > newest_us and 0 <= one[1] <= 100])
        if not new:
            # Nothing was sampled, or the wall clock was set back: then what is asked for lies
            # in the future. Ask for everything next time; what is known is known by its time.
            self._ask_from_us = 0
            if found and max(found)[0] < self._newest_us:
                self._newest_us = max(found)[0]
            return []
        before_us, self._newest_us = self._newest_us, new[-1][0]
        self._ask_from_us = self._newest_us
        return self._spans(new, before_us, since_ms, now_ms)

    def _spans(
        self, new: Sequence[_Sample], before_us: int, since_ms: int, now_ms: int
    ) -> Sequence[Span]:
        """Each sample holds since the one before it, two usual steps at most.

        They are put together to spans of a quarter of a second: there are hundreds.
        """
        first_us, newest_us = new[0][0], new[-1][0]
        step_us = (newest_us - first_us) // (len(new) - 1) if len(new) > 1 else _POINT_MS * 1000
        is_full = len(new) * 4 >= self._buffer.most * 3
        if is_full and before_us and first_us - before_us > 3 * step_us:
            self.wanted_ms = (newest_us - first_us) * 4 // 5000
        since_us = newest_us - (now_ms - since_ms) * 1000
        last_us = max(since_us, before_us, first_us - 2 * step_us)
        start_us, busy, covered_us = last_us, 0, 0  # of the open span
        spans: list[Span] = []
        for at_us, value in new:
            gap_us = at_us - last_us
            if gap_us <= 0:
                continue
            last_us = at_us
            length_us = min(gap_us, 2 * step_us)
            busy += value * length_us
            covered_us += length_us
            if at_us - start_us >= _GRAIN_US or at_us == newest_us:
                spans.append(
                    _span(start_us - newest_us, at_us - newest_us, busy, covered_us, now_ms)
                )
                start_us, busy, covered_us = at_us, 0, 0
        return spans


def _span(start_us: int, end_us: int, busy: int, covered_us: int, now_ms: int) -> Span:
    """Per cent x us, so long before now, as base units x ms."""
    start_ms, end_ms = now_ms + start_us // 1000, now_ms + end_us // 1000
    covered_ms = covered_us // 1000
    return Span(start_ms, end_ms, busy * _UNITS_PER_CENT * covered_ms // covered_us, covered_ms)


class _Buffer:
    """Asks for the samples of one GPU; how many there can be is only asked once."""

    def __init__(self) -> None:
        self._room: ctypes.Array[ctypes.c_char] | None = None
        self.most = 0  # as many samples as the driver keeps

    def read(self, library: Library, gpu: Handle, from_us: int) -> Sequence[_Sample]:
        """Everything newer than `from_us`."""
        function = library.function("nvmlDeviceGetSamples")
        if self._room is None:
            _, self.most = _ask_samples(function, gpu, from_us, None, 0)
            self.most = min(self.most, _MAX_SAMPLES)
            if not self.most:
                return []
            self._room = ctypes.create_string_buffer(self.most * _SAMPLE_BYTES)
        try:
            type_, count = _ask_samples(function, gpu, from_us, self._room, self.most)
        except NvmlError as error:
            if error.outcome is Outcome.GREW:
                self._room = None
            raise
        data = memoryview(self._room)[: min(count, self.most) * _SAMPLE_BYTES]
        if type_ == _DOUBLE:
            return [(at_us, round(value)) for at_us, value in struct.iter_unpack("=Qd", data)]
        return list(struct.iter_unpack("=QI4x", data))


def _ask_samples(
    function: Callable[..., int],
    gpu: Handle,
    from_us: int,
    room: "ctypes.Array[ctypes.c_char] | None",
    most: int,
) -> tuple[int, int]:
    """The type of the values, and how many samples there are now, or can be without room."""
    type_, count = ctypes.c_uint(1), ctypes.c_uint(most)
    arguments = (ctypes.c_ulonglong(from_us), ctypes.byref(type_), ctypes.byref(count), room)
    code = function(gpu, _UTILISATION_SAMPLES, *arguments)
    if code == Code.NOT_FOUND:  # there is nothing newer
        return type_.value, 0
    if code != Code.SUCCESS:
        raise NvmlError(code, "the utilisation samples cannot be read")
    return type_.value, count.value


def _units(per_cent: float) -> int:
    """Base units of a whole device; -1 for what is no percentage."""
    return round(per_cent * _UNITS_PER_CENT) if 0 <= per_cent <= 100 else -1


def read_rates(library: Library, gpu: Handle, since_ms: int | None, now_ms: int) -> Sequence[Span]:
    """The driver's last own mean, taken to hold since the last look.

    Raises:
        NvmlError: see `Library`.
    """
    per_cent = library.call(library.binding.nvmlDeviceGetUtilizationRates, gpu).gpu
    return _point(_units(per_cent), since_ms, now_ms)


class GpmReader:
    """The utilisation of one MIG instance between two looks."""

    def __init__(self) -> None:
        """There was no look yet."""
        self._last: Handle | None = None
        self._spare: Handle | None = None
        self._last_ms = 0
        self._question: MetricsGet | None = None

    def read(
        self, library: Library, gpu: Handle, instance: int, units: int, now_ms: int
    ) -> Sequence[Span]:
        """What it did since the last look; [] the first time.

        Raises:
            NvmlError: see `Library`.
        """
        binding = library.binding
        sample = self._spare or library.call(binding.nvmlGpmSampleAlloc)
        self._spare = sample
        library.call(binding.nvmlGpmMigSampleGet, gpu, instance, sample)
        last, last_ms = self._last, self._last_ms
        self._last, self._spare, self._last_ms = sample, last, now_ms
        if last is None:
            return []
        per_cent = self._compare(library, last, sample)
        busy = round(per_cent / 100 * units) if 0 <= per_cent <= 100 else -1
        return _point(busy, last_ms, now_ms)

    def close(self, library: Library) -> None:
        """Give the samples back."""
        for sample in (self._last, self._spare):
            if sample is not None:
                library.call(library.binding.nvmlGpmSampleFree, sample)
        self._last = self._spare = None

    def _compare(self, library: Library, last: Handle, sample: Handle) -> float:
        if self._question is None:
            self._question = library.binding.c_nvmlGpmMetricsGet_t()
            self._question.version, self._question.numMetrics = _GPM_VERSION, 1
            self._question.metrics[0].metricId = _GRAPHICS_UTIL
        self._question.sample1, self._question.sample2 = last, sample
        library.call(library.binding.nvmlGpmMetricsGet, self._question)
        metric = self._question.metrics[0]
        if metric.nvmlReturn != Code.SUCCESS:
            raise NvmlError(metric.nvmlReturn, "the utilisation of a MIG device cannot be told")
        return metric.value


def _point(units: int, since_ms: int | None, now_ms: int) -> Sequence[Span]:
    start_ms = now_ms - _POINT_MS if since_ms is None else since_ms
    if units < 0 or start_ms >= now_ms:
        return []
    return [Span(start_ms, now_ms, units * (now_ms - start_ms), now_ms - start_ms)]
