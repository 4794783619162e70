"""What an engine says of a container, taken from its answer to an inspect. Pure.

Docker's API and Podman's copy of it. Quotas are what was requested: `--cpus`, else the CFS
quota, else the CPUs that it was pinned to; `--memory`; else 0. Devices are those of
`--gpus`, else those of `NVIDIA_VISIBLE_DEVICES`, else the device files.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TypeAlias

from agent.devices.inventory import ALL
from agent.devices.visible import (
    ascend_devices,
    cdi_devices,
    device_file,
    gpus_by_number,
    nvidia_devices,
)
from agent.jobs.jobfile import MAX_CPU_M
from agent.jobs.limits import Quotas, cpu_m_of, mem_kib_of
from agent.jobs.terms import bill_text
from agent.model import DeviceShare, ResourceType

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
_Object: TypeAlias = "dict[str, Json]"

_ID = re.compile(r"[0-9a-f]{64}")
_POD = "io.kubernetes.pod.uid"
_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?)\d*(Z|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OLDEST = datetime(2000, 1, 1, tzinfo=UTC)
_DEFAULT_PERIOD_US = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container as its engine describes it. `started_at_ms` is by the engine's clock."""

    id: str
    name: str
    labels: Mapping[str, str]
    environ: Mapping[str, str]
    quotas: Quotas
    devices: tuple[DeviceShare, ...]
    started_at_ms: int | None

    @property
    def is_pods(self) -> bool:
        """Whether it is a part of a Kubernetes pod."""
        return _POD in self.labels

    def first(self, names: Sequence[str]) -> str:
        """The first of these labels, or variables, that says anything; else ""."""
        return next(filter(None, (self.labels.get(n) or self.environ.get(n) for n in names)), "")


def parse_container(body: bytes, gpu_runtimes: Sequence[str]) -> Container:
    """Read the answer to an inspect.

    Raises:
        ValueError: it describes no container.
    """
    document = _object(_load(body))
    config, host = _object(document.get("Config")), _object(document.get("HostConfig"))
    environ = dict(_variables(config.get("Env")))
    if not _text(document.get("Id")) or not config or not host:
        raise ValueError("it has no Id, Config or HostConfig")
    return Container(
        id=_text(document.get("Id")),
        name=_text(document.get("Name")).removeprefix("/"),
        labels=_labels(config.get("Labels")),
        environ=environ,
        quotas=_quotas(host),
        devices=_devices(host, environ, gpu_runtimes),
        started_at_ms=_instant(_object(document.get("State")).get("StartedAt")),
    )


def parse_running(body: bytes) -> Mapping[str, str]:
    """Read the list of running containers: name by id, without those of Kubernetes.

    Raises:
        ValueError: it is no such list.
    """
    items = _load(body)
    if not isinstance(items, list):
        raise ValueError("it is no list")  # noqa: TRY004  as any other wrong document
    running: dict[str, str] = {}
    for item in map(_object, items):
        id_, names = _text(item.get("Id")), _texts(item.get("Names"))
        if _ID.fullmatch(id_) and _POD not in _labels(item.get("Labels")):
            running[id_] = bill_text(names[0].removeprefix("/")) if names else ""
    return running


def _load(body: bytes) -> Json:
    try:
        document: Json = json.loads(body)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return document


def _quotas(host: _Object) -> Quotas:
    return {
        ResourceType.CPU: min(_cpu_m(host), MAX_CPU_M),
        ResourceType.MEM: mem_kib_of(_whole(host.get("Memory"))),
    }


def _cpu_m(host: _Object) -> int:
    nano = _whole(host.get("NanoCpus"))
    if nano:
        return nano // 1_000_000
    quota, period = _whole(host.get("CpuQuota")), _whole(host.get("CpuPeriod"))
    if quota:
        return cpu_m_of(quota, period or _DEFAULT_PERIOD_US)
    return 1000 * _count_cpus(_text(host.get("CpusetCpus")))


def _count_cpus(cpus: str) -> int:
    """How many CPUs a list such as `0-3,8` names."""
    named: set[int] = set()
    for match in map(_RANGE.fullmatch, cpus.split(",")[:1024]):
        if match:
            named |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return len(named)


def _devices(
    host: _Object, environ: Mapping[str, str], gpu_runtimes: Sequence[str]
) -> tuple[DeviceShare, ...]:
    files = [
        share
        for item in _list(host.get("Devices"))
        if (share := device_file(_text(_object(item).get("PathOnHost"))))
    ]
    gpus = _requested(host) or _shown(host, environ, gpu_runtimes)
    npus = ascend_devices(environ.get("ASCEND_VISIBLE_DEVICES", ""))
    gpus = gpus or tuple(share for share in files if share.type is ResourceType.GPU)
    npus = npus or tuple(share for share in files if share.type is ResourceType.NPU)
    return tuple(dict.fromkeys([*gpus, *npus]))


def _requested(host: _Object) -> tuple[DeviceShare, ...]:
    """What `--gpus` and `--device vendor=…` asked for."""
    return tuple(
        share
        for request in map(_object, _list(host.get("DeviceRequests")))
        for share in _of_request(request)
    )


def _of_request(request: _Object) -> tuple[DeviceShare, ...]:
    driver, ids = _text(request.get("Driver")), _texts(request.get("DeviceIDs"))
    if driver == "cdi":
        return cdi_devices(ids)
    capabilities = [_texts(each) for each in _list(request.get("Capabilities"))]
    if driver != "nvidia" and not any("gpu" in each for each in capabilities):
        return ()
    if ids:
        return nvidia_devices(",".join(ids))
    count = request.get("Count")
    return gpus_by_number(count) if isinstance(count, int) else ()


def _shown(
    host: _Object, environ: Mapping[str, str], gpu_runtimes: Sequence[str]
) -> tuple[DeviceShare, ...]:
    """What the variable asks a runtime for; images say `all`, people name devices."""
    value = environ.get("NVIDIA_VISIBLE_DEVICES", "")
    runtime = _text(host.get("Runtime"))
    if value == ALL and not any(fnmatchcase(runtime, each) for each in gpu_runtimes):
        return ()
    return nvidia_devices(value)


def _variables(value: Json) -> Iterator[tuple[str, str]]:
    for item in _texts(value):
        name, equals, text = item.partition("=")
        if equals:
            yield name, text


def _instant(value: Json) -> int | None:
    """Milliseconds since the epoch; None = never, which Go writes as the year 1."""
    match = _TIME.fullmatch(_text(value))
    try:
        instant = datetime.fromisoformat(match[1] + match[2]) if match else None
    except ValueError:
        return None
    if instant is None or instant < _OLDEST:
        return None
    return (instant - _EPOCH) // timedelta(milliseconds=1)


def _labels(value: Json) -> Mapping[str, str]:
    return {name: text for name, text in _object(value).items() if isinstance(text, str)}


def _object(value: Json) -> _Object:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> Sequence[Json]:
    return value if isinstance(value, list) else []


def _texts(value: Json) -> Sequence[str]:
    return [item for item in _list(value) if isinstance(item, str)]


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: Json) -> int:
    """A quantity that was asked for; 0, and what is none, is nothing asked for."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
