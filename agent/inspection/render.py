"""Shows a report as text for people, or as JSON for programs. Pure."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from agent.inspection.look import Report, SourceReport
from agent.model import DEVICE_UNITS, Device, MeterKey, Reading, ReadingKind, ResourceType, Run

_KIB_PER_MIB = 1024
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"
_SURROGATE = re.compile("[\ud800-\udfff]")
"""What Python makes of a file's name that is no UTF-8; there is no way to write it."""


def as_json(report: Report) -> str:
    """One object; quantities in base units, instants in ms, unknown is null."""
    document = {
        "node": report.node,
        "configuration": report.source,
        "root": report.root or None,
        "at_ms": report.now_ms,
        "capacity": {
            "cpu_m": report.capacity.cpu_m,
            "mem_kib": report.capacity.mem_kib,
            "cpu_model": report.capacity.cpu_model,
        },
        "providers": [_source_object(one) for one in report.providers],
        "samplers": [_source_object(one) for one in report.samplers],
        "devices": [_device_object(device, report) for device in report.devices],
        "runs": [_run_object(run, report.readings) for run in report.runs],
        "refused": [{"key": key, "reason": why} for key, why in report.refused.items()],
    }
    return _SURROGATE.sub(_UNKNOWN, json.dumps(document, indent=2, ensure_ascii=False))


def as_text(report: Report) -> str:
    """Tables that fit a terminal, with a word on everything that is wrong."""
    mem_mib = report.capacity.mem_kib // _KIB_PER_MIB
    head = f"node {report.node}: {report.capacity.cpu_m} m, {mem_mib} Mi"
    if report.capacity.cpu_model:
        head += f", {report.capacity.cpu_model}"
    place = f"saved tree {report.root}, " if report.root else ""
    parts = [
        f"{head}\n{place}{_instant(report.now_ms)}, configuration: {report.source}",
        _table(("PROVIDER", "RUNS", "AGE", "STATE"), map(_source_row, report.providers)),
        _table(
            ("SAMPLER", "AGE", "STATE"),
            ((name, age, state) for name, _, age, state in map(_source_row, report.samplers)),
        ),
        _table(
            ("DEVICE", "TYPE", "MODEL", "SHARE", "HELD", "STATE"),
            (_device_row(device, report) for device in report.devices),
        ),
        _table(
            ("RUN", "NAME", "USER", "VC", "SINCE", "CPU m", "MEM Mi", "DEVICES", "USED"),
            (_run_row(run, report) for run in report.runs),
        )
        if report.runs
        else "no runs",
    ]
    notes = [
        *(
            f"{one.name}: {each}"
            for one in (*report.providers, *report.samplers)
            for each in one.problems
        ),
        *(f"{key} is not metered: it {why}" for key, why in report.refused.items()),
    ]
    words = "\n".join(map(_printable, notes))
    return _SURROGATE.sub(_UNKNOWN, "\n\n".join(part for part in (*parts, words) if part))


def _source_object(one: SourceReport) -> dict[str, object]:
    return {
        "name": one.name,
        "runs": one.count,
        "age_ms": one.age_ms,
        "failure": one.failure,
        "problems": list(one.problems),
    }


def _device_object(device: Device, report: Report) -> dict[str, object]:
    return {
        "id": device.id,
        "type": device.type,
        "model": device.model,
        "units": device.units,
        "parent": device.parent,
        "names": sorted(device.names),
        "is_up": device.is_up,
        "held": _held(device, report.runs),
    }


def _run_object(run: Run, readings: Mapping[MeterKey, Reading]) -> dict[str, object]:
    return {
        "key": run.key,
        "provider": run.provider,
        "job_id": run.job_id,
        "job_name": run.job_name,
        "user_id": run.user_id,
        "username": run.username,
        "vc": run.vc,
        "project": run.project,
        "namespace": run.namespace,
        "kind": run.kind,
        "started_at_ms": run.started_at_ms,
        "quotas": dict(run.quotas),
        "devices": [
            {"type": one.type, "id": one.id, "model": one.model, "units": one.share}
            for one in run.devices
        ],
        "cgroup": run.cgroup,
        "pids": list(run.pids),
        "storage_paths": list(run.storage_paths),
        "readings": [
            {"type": key.type, "device": key.device, "kind": one.kind, "value": one.value}
            for key, one in readings.items()
            if key.run == run.key
        ],
    }


def _held(device: Device, runs: Iterable[Run]) -> int:
    return sum(share.share for run in runs for share in run.devices if share.id == device.id)


def _source_row(one: SourceReport) -> tuple[str, ...]:
    age = "never" if one.age_ms is None else f"{one.age_ms / 1000:.1f} s"
    return one.name, str(one.count), age, one.failure or "ok"


def _device_row(device: Device, report: Report) -> tuple[str, ...]:
    name = f"  {device.id}" if device.parent else device.id
    state = "up" if device.is_up else "DOWN"
    held = _fraction(_held(device, report.runs))
    return name, device.type, device.model, _fraction(device.units), held, state


def _run_row(run: Run, report: Report) -> tuple[str, ...]:
    return (
        run.job_id,
        run.job_name,
        run.username or "-",
        run.vc,
        _instant(run.started_at_ms),
        str(run.quotas.get(ResourceType.CPU, 0)),
        str(run.quotas.get(ResourceType.MEM, 0) // _KIB_PER_MIB),
        " ".join(f"{_fraction(one.share)}x{one.model or one.id}" for one in run.devices) or "-",
        _used(run, report.readings),
    )


def _used(run: Run, readings: Mapping[MeterKey, Reading]) -> str:
    """CPU seconds so far, memory now, devices in per cent; "?" = it could not be read."""
    words = [_used_word(key, reading) for key, reading in readings.items() if key.run == run.key]
    return " ".join(words) or "?"


def _used_word(key: MeterKey, reading: Reading) -> str:
    if reading.kind is ReadingKind.COUNTER:
        return f"{reading.value / 1_000_000:.1f}s"
    if key.device is None:
        return f"{reading.value // _KIB_PER_MIB}Mi"
    return f"{100 * reading.value / DEVICE_UNITS:.0f}%"


def _fraction(units: int) -> str:
    return "1" if units == DEVICE_UNITS else f"{units / DEVICE_UNITS:.3g}"


def _instant(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they have to be; "" where there are no rows."""
    lines = [[_printable(cell) for cell in row] for row in rows]
    if not lines:
        return ""
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [list(head), *lines]
    )


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else _UNKNOWN for one in text)
