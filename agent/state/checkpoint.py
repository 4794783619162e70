"""The state as bytes: what goes into every frame, so that a killed agent goes on from it.

JSON with a column per field (the spool deflates it): fields may be added, and an agent
that does not know one passes it over. A change that an older agent must not pass over
gets another `VERSION`.
"""

import json
from dataclasses import dataclass

from agent.accounts.checkpoint import dump_accounts, load_accounts
from agent.clock import Anchor
from agent.meterrow import MEASURED, dump_meter, load_meter
from agent.model import MeterKey, ResourceType, RunKey
from agent.state.finished import Finished
from agent.state.meters import Meters
from agent.state.node import NodeState
from agent.state.runs import GroupKey, LiveMeter, LiveRun
from agent.table import CheckpointError, Json, Row
from proto.metering.v1 import metering_pb2 as pb

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Whose checkpoint it is; "" = not known."""

    node: str = ""
    machine_id: str = ""


UNKNOWN_HOST = Host()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What `load` gives back beside the state itself."""

    state: NodeState
    host: Host
    anchor: Anchor
    suspended_ms: int  # of the anchor's boot, when the checkpoint was taken


def dump(state: NodeState, anchor: Anchor, suspended_ms: int, host: Host = UNKNOWN_HOST) -> bytes:
    """Serialize the state after a draft was taken."""
    runs = [*state.live.values(), *state.ended]
    opened = [meter for live in runs for meter in [*live.meters(), *live.closing]]
    document: dict[str, Json] = {
        "version": VERSION,
        "node": host.node,
        "machine_id": host.machine_id,
        "boot_id": anchor.boot_id,
        "offset_ns": anchor.offset_ns,
        "suspended_ms": suspended_ms,
        "next_number": state.meters.next_number,
        "floor_ms": state.meters.floor_ms,
        "runs": _run_columns(runs),
        "meters": _meter_columns(opened),
        "finished": _finished_columns(state.finished),
    }
    if state.meters.accounts is not None:
        document["accounts"] = dump_accounts(state.meters.accounts)
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def load(data: bytes, *, hold_ms: int, cpu_model: str | None) -> Checkpoint:
    """Read a checkpoint back.

    Raises:
        CheckpointError: it is of a version that this agent does not know.
    """
    document: dict[str, Json] = json.loads(data)
    root = Row(document)
    if root.integer("version") != VERSION:
        raise CheckpointError(
            f"the spool was written by another version of the agent (checkpoint version "
            f"{root.integer('version')}, known is {VERSION}): install that one again"
        )
    meters = Meters(
        hold_ms=hold_ms,
        cpu_model=cpu_model,
        next_number=root.integer("next_number"),
        floor_ms=root.integer_or_none("floor_ms"),
    )
    if accounts := root.row_or_none("accounts"):
        meters.accounts = load_accounts(accounts)
    state = NodeState(meters)
    _load_runs(state, root)
    for row in root.rows("finished"):
        state.finished[RunKey(row.text("key"))] = Finished(
            provider=row.text("provider"),
            ended_at_ms=row.integer("ended_at_ms"),
            cpu_value=row.integer("cpu_value"),
            is_open=bool(row.integer("has_vanished")),
            told_ms=row.integer_or_none("told_ms"),
            advanced=row.integer("advanced", 0),
            asleep_ms=row.integer("asleep_ms", 0),
        )
    anchor = Anchor(boot_id=root.text("boot_id"), offset_ns=root.integer("offset_ns"))
    host = Host(
        node=root.text_or_none("node") or "", machine_id=root.text_or_none("machine_id") or ""
    )
    return Checkpoint(
        state=state, host=host, anchor=anchor, suspended_ms=root.integer("suspended_ms", 0)
    )


def _run_columns(runs: list[LiveRun]) -> dict[str, Json]:
    defined = [live.definition for live in runs]
    return {
        "key": [live.key for live in runs],
        "shift_ms": [live.shift_ms for live in runs],
        "alive_at_ms": [live.alive_at_ms for live in runs],
        "ended_at_ms": [live.ended_at_ms for live in runs],
        "number": [run.number for run in defined],
        "wire_key": [run.key for run in defined],
        "provider": [run.provider for run in defined],
        "job_id": [run.job_id for run in defined],
        "job_name": [run.job_name for run in defined],
        "user_id": [run.user_id if run.HasField("user_id") else None for run in defined],
        "username": [run.username if run.HasField("username") else None for run in defined],
        "vc": [run.vc for run in defined],
        "project": [run.project for run in defined],
        "namespace": [run.namespace for run in defined],
        "kind": [run.kind for run in defined],
        "started_at_ms": [run.started_at_ms for run in defined],
    }


def _meter_columns(opened: list[LiveMeter]) -> dict[str, Json]:
    defined = [live.definition for live in opened]
    rows = [dump_meter(live.meter) for live in opened]
    return {
        "number": [definition.number for definition in defined],
        "run": [definition.run for definition in defined],
        "type": [definition.type for definition in defined],
        "device": [live.key.device for live in opened],
        "model": [
            definition.model if definition.HasField("model") else None for definition in defined
        ],
        "quota": [definition.quota for definition in defined],
        "group_quota": [definition.group_quota for definition in defined],
        "started_at_ms": [definition.started_at_ms for definition in defined],
        "physical": [live.physical for live in opened],
        "is_closing": [int(live.is_closing) for live in opened],
        **{name: [row[name] for row in rows] for name in MEASURED},
    }


def _finished_columns(finished: dict[RunKey, Finished]) -> dict[str, Json]:
    return {
        "key": list(finished),
        "provider": [run.provider for run in finished.values()],
        "ended_at_ms": [run.ended_at_ms for run in finished.values()],
        "cpu_value": [run.cpu_value for run in finished.values()],
        "has_vanished": [int(run.is_open) for run in finished.values()],  # its first name
        "told_ms": [run.told_ms for run in finished.values()],
        "advanced": [run.advanced for run in finished.values()],
        "asleep_ms": [run.asleep_ms for run in finished.values()],
    }


def _load_runs(state: NodeState, root: Row) -> None:
    by_number: dict[int, LiveRun] = {}
    for row in root.rows("runs"):
        live = by_number[row.integer("number")] = _load_run(row)
        if live.ended_at_ms is None:
            state.live[live.key] = live
        else:
            state.ended.append(live)
    for row in root.rows("meters"):
        live = by_number[row.integer("run")]
        opened = _load_meter(row, live)
        if opened.is_closing:
            live.closing.append(opened)
        else:
            type_ = opened.key.type
            model = None if type_ is ResourceType.CPU else row.text_or_none("model")
            live.groups.setdefault(GroupKey(type_, model), []).append(opened)
            state.meters.open[opened.key] = opened.meter
            _meet_stranger(state, opened)


def _meet_stranger(state: NodeState, opened: LiveMeter) -> None:
    """The accounts keep who holds a device that they know; of the others we tell them."""
    accounts, definition = state.meters.accounts, opened.definition
    if accounts and opened.physical and opened.physical not in accounts.devices:
        accounts.hold(
            opened.physical, definition.number, definition.quota, definition.started_at_ms
        )


def _load_run(row: Row) -> LiveRun:
    definition = pb.Run(
        number=row.integer("number"),
        key=row.text("wire_key"),
        provider=row.text("provider"),
        job_id=row.text("job_id"),
        job_name=row.text("job_name"),
        user_id=row.text_or_none("user_id"),
        username=row.text_or_none("username"),
        vc=row.text("vc"),
        project=row.text("project"),
        namespace=row.text("namespace"),
        kind=row.text("kind"),
        started_at_ms=row.integer("started_at_ms"),
    )
    return LiveRun(
        key=RunKey(row.text("key")),
        definition=definition,
        shift_ms=row.integer("shift_ms"),
        alive_at_ms=row.integer("alive_at_ms"),
        ended_at_ms=row.integer_or_none("ended_at_ms"),
    )


def _load_meter(row: Row, live: LiveRun) -> LiveMeter:
    definition = pb.Meter(
        number=row.integer("number"),
        run=row.integer("run"),
        type=row.text("type"),
        device=row.text_or_none("device"),
        model=row.text_or_none("model"),
        quota=row.integer("quota"),
        group_quota=row.integer("group_quota"),
        started_at_ms=row.integer("started_at_ms"),
    )
    physical = row.text_or_none("physical")
    if physical is not None and physical != row.text_or_none("device"):
        definition.physical = physical
    meter = load_meter(row, number=definition.number, quota=definition.quota)
    key = MeterKey(live.key, ResourceType(definition.type), row.text_or_none("device"))
    return LiveMeter(
        key,
        meter,
        definition,
        live.definition,
        is_closing=bool(row.integer("is_closing")),
        physical=physical,
    )
