"""The `ascend` sampler: Huawei's NPUs, whole or cut into vNPUs.

    dcmi | npusmi  --chips, looks-->  survey (a thread)  --gauges-->  sampler

The driver's library is asked where it is, else npu-smi; both may take seconds, or for ever,
so a thread of their own asks them, and a sample only takes what that has found.

- What a run uses is the utilisation of the devices that it holds alone, averaged over the
  interval, and at most its share. A vNPU has a utilisation of its own where the driver tells
  it. Where several runs hold one device, see `agent.samplers.gauges`.
- Memory is not read: nothing bills it, and what the driver calls used is its own for the
  most part.
"""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from agent.background import Background
from agent.clock import SystemTime
from agent.context import Context
from agent.procfs import ProcFs
from agent.samplers import Sampler
from agent.samplers.ascend.dcmi import DcmiSource
from agent.samplers.ascend.dcmilib import LIBRARIES, load_dcmi
from agent.samplers.ascend.npusmi import NpuSmiSource
from agent.samplers.ascend.runner import NpuSmi
from agent.samplers.ascend.sampler import AscendSampler
from agent.samplers.ascend.source import NoSource, NpuSource
from agent.samplers.ascend.survey import Surveyor
from agent.sections.ascend import AscendSettings

_FIRST_ANSWER_SECONDS = 4.0
_TOOL_FOLDERS = "/usr/local/sbin:/usr/local/bin:/usr/local/Ascend/driver/tools"


def open_ascend_sampler(context: Context) -> Sampler | None:
    """Look for a driver; None where there is neither it nor a device file of its."""
    settings = context.settings
    devices = settings.at("/dev")
    if not context.is_live:
        return None
    source = _open_source(settings.ascend, devices)
    if source is None and not any(name.startswith("davinci") for name in _names(devices)):
        return None
    return _start(context, source or NoSource())


def _open_source(settings: AscendSettings, devices: str) -> NpuSource | None:
    """The first that there is, in the order of the settings."""
    for name in settings.sources:
        if name == "dcmi":
            candidates = (settings.library,) if settings.library else LIBRARIES
            if library := load_dcmi(candidates):
                return DcmiSource(library)
        elif path := _find_tool(settings.npu_smi):
            return NpuSmiSource(NpuSmi(path, SystemTime().monotonic_ns), partial(_names, devices))
    return None


def _find_tool(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=_TOOL_FOLDERS)


def _names(directory: str) -> Sequence[str]:
    with suppress(OSError):
        return os.listdir(directory)  # noqa: PTH208  names are all that is wanted
    return ()


def _start(context: Context, source: NpuSource) -> AscendSampler:
    time, settings = SystemTime(), context.settings
    surveyor = Surveyor(source, lambda: time.monotonic_ns() // 1_000_000, context.wake)
    background = Background(
        "ascend",
        surveyor.look,
        every_seconds=source.every_seconds,
        now_ms=context.now_ms,
        told=surveyor.told,
    )
    background.start(_FIRST_ANSWER_SECONDS)
    sample_ms = settings.agent.sample_interval_seconds * 1000
    return AscendSampler(
        surveyor,
        background,
        interval_ms=max(sample_ms, int(source.every_seconds * 1000)),
        monotonic_ms=surveyor.monotonic_ms,
        procfs=ProcFs(settings.at("/proc")),
    )
