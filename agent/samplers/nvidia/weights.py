"""What each process used of a shared GPU: weights, to split what was measured of the whole.

- Accounting, version 2 (R610, where the administrator has it on): sums since each process
  began, so nothing between two looks is missed, nor what a process did before it ended.
- The driver's samples by process (nvmlDeviceGetProcessUtilization, or its successor), one
  per process that was busy. Stale ones come again and again, of dead processes too: only
  what is newer than the last look counts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from agent.samplers.nvidia.binding import AccountingStats, Handle, ProcessSample
from agent.samplers.nvidia.library import Library, NvmlError, Outcome
from agent.samplers.nvidia.processlist import GpuProcess

ListProcesses = Callable[[], Sequence[GpuProcess] | None]
Weights = Mapping[int, int]
"""By process."""

_AHEAD_US = 1_000_000
"""So far in the future a sample may be, the clocks being read one after the other."""


class _Account(NamedTuple):
    started_us: int
    total: int


class ProcessWeights:
    """The weights of one GPU's processes since the last time they were asked for."""

    def __init__(self, begin_us: int) -> None:
        """Begin at this instant of the wall clock."""
        self._begin_us = begin_us
        self._seen_us = begin_us
        self._accounts: dict[int, _Account] = {}
        self._is_accounting: bool | None = None
        self._absent: set[str] = set()

    def read(
        self, library: Library, gpu: Handle, list_processes: ListProcesses, now_us: int
    ) -> Weights | None:
        """Weights since the last look; None = the driver cannot tell.

        Raises:
            NvmlError: the driver has lost the GPU, or is gone.
        """
        if self._has_accounting(library, gpu):
            return self._read_accounts(library, gpu, list_processes() or ())
        return self._read_samples(library, gpu, now_us)

    # Accounting --------------------------------------------------------------------------

    def _has_accounting(self, library: Library, gpu: Handle) -> bool:
        """Whether it is on, and of the version that counts while a process runs."""
        if self._is_accounting is None:
            try:
                library.function("nvmlDeviceGetAccountingStats_v2")
                mode = library.call(library.binding.nvmlDeviceGetAccountingMode, gpu)
                has_binding = hasattr(library.binding, "nvmlDeviceGetAccountingStats_v2")
                self._is_accounting = bool(mode) and has_binding
            except NvmlError as error:
                _let_pass(error)
                self._is_accounting = False
        return self._is_accounting

    def _read_accounts(
        self, library: Library, gpu: Handle, listed: Sequence[GpuProcess]
    ) -> Weights | None:
        weights: dict[int, int] = {}
        is_complete = True
        for pid in {*self._accounts, *(process.pid for process in listed)}:
            stats = _read_account(library, gpu, pid)
            if stats is None:
                self._accounts.pop(pid, None)
                continue
            grown = self._grown(pid, stats)
            is_complete &= grown is not None
            weights[pid] = grown or 0
        return weights if is_complete else None

    def _grown(self, pid: int, stats: AccountingStats) -> int | None:
        """What a process did since the last look; None = it was there before the first one."""
        account = _Account(stats.startTime, stats.sumGpuUtil)
        last = self._accounts.pop(pid, None)
        if stats.isRunning:
            self._accounts[pid] = account
        if last is not None and last.started_us == account.started_us:
            return max(0, account.total - last.total)
        return account.total if account.started_us >= self._begin_us else None

    # Samples -----------------------------------------------------------------------------

    def _read_samples(self, library: Library, gpu: Handle, now_us: int) -> Weights | None:
        since_us = self._seen_us
        if since_us > now_us + _AHEAD_US:  # the wall clock was set back: begin anew
            self._begin_us = self._seen_us = now_us
            return None
        samples = self._ask(library, gpu, since_us)
        if samples is None:
            return None
        weights: dict[int, int] = {}
        for sample in samples:
            is_new = since_us < sample.timeStamp <= now_us + _AHEAD_US
            if sample.pid and is_new and sample.smUtil <= 100:
                weights[sample.pid] = weights.get(sample.pid, 0) + sample.smUtil
                self._seen_us = max(self._seen_us, sample.timeStamp)
        return weights

    def _ask(self, library: Library, gpu: Handle, since_us: int) -> Sequence[ProcessSample] | None:
        binding = library.binding
        for function in (
            binding.nvmlDeviceGetProcessUtilization,
            binding.nvmlDeviceGetProcessesUtilizationInfo,
        ):
            name = function.__name__
            if name in self._absent:
                continue
            try:
                return library.call_growing(function, gpu, since_us)
            except NvmlError as error:
                _let_pass(error)
                if error.outcome is Outcome.EMPTY:
                    return []
                if error.outcome is not Outcome.ABSENT:
                    return None
                self._absent.add(name)
        return None


def _read_account(library: Library, gpu: Handle, pid: int) -> AccountingStats | None:
    try:
        return library.call(library.binding.nvmlDeviceGetAccountingStats_v2, gpu, pid)
    except NvmlError as error:
        _let_pass(error)
        return None


def _let_pass(error: NvmlError) -> None:
    """Raise what concerns more than this one call."""
    if error.outcome in (Outcome.DOWN, Outcome.GONE):
        raise error
