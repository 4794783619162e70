"""Goes on from the newest checkpoint of the spool, or begins with nothing."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from agent.accounts import NodeAccounts
from agent.clock import AgentClock
from agent.daemon.retell import Origin
from agent.model import ResourceType
from agent.spool import Spool
from agent.state import Host, Meters, NodeState, load

_NUMBERS_PER_FRAME = 20  # bits: no frame defines more runs and meters
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """`suspended_ms` None = the checkpoint is not of this boot, or there is none."""

    state: NodeState
    suspended_ms: int | None
    origin: Origin


def resume(
    *,
    spool: Spool,
    clock: AgentClock,
    meters: Meters,
    uptime_ms: Callable[[], int],
    capacity: Mapping[ResourceType, int] | None,
    host: Host,
) -> Resumed:
    """Read the state back, and the clock with it; `meters` begin where there is none.

    `capacity` None = the books of the node are not kept.

    Raises:
        CheckpointError: another version of the agent wrote it.
    """
    _tell_damages(spool)
    recovered = spool.recovered
    suspended_ms: int | None = None
    floor_ms, origin = recovered.floor_ms, Origin()
    if recovered.checkpoint is None:
        if spool.last_sequence:
            meters.next_number = spool.last_sequence + 1 << _NUMBERS_PER_FRAME
        state = NodeState(meters)
    else:
        hold_ms, cpu_model = meters.hold_ms, meters.cpu_model
        checkpoint = load(recovered.checkpoint, hold_ms=hold_ms, cpu_model=cpu_model)
        state, origin = checkpoint.state, Origin(is_renamed=_is_renamed(checkpoint.host, host))
        if _is_elsewhere(checkpoint.host, host):
            _leave_behind(spool, checkpoint.host, host, clock.now_ms())
            state, origin = NodeState(meters), Origin()
            floor_ms = clock.now_ms() - uptime_ms()
        elif clock.resume(checkpoint.anchor):
            suspended_ms = checkpoint.suspended_ms
        else:
            number = state.meters.next_number
            origin = replace(origin, sequence=spool.last_sequence, number=number)
            _reboot(state, clock.now_ms(), uptime_ms())
    _open_accounts(state, clock.now_ms(), capacity)
    if floor_ms is not None:
        state.forfeit(min(floor_ms, clock.now_ms()))
    return Resumed(state=state, suspended_ms=suspended_ms, origin=origin)


def _is_renamed(before: Host, host: Host) -> bool:
    return bool(before.node and host.node) and before.node != host.node


def _is_elsewhere(before: Host, host: Host) -> bool:
    return bool(before.machine_id and host.machine_id) and before.machine_id != host.machine_id


def _leave_behind(spool: Spool, before: Host, host: Host, now_ms: int) -> None:
    """Begin anew: the runs in this copy go on where it was made, and are not ours to end."""
    _LOGGER.error(
        "the spool is a copy of another machine's; it is set aside, and nothing of it is told",
        extra={
            "action": "cloned_spool",
            "of": before.machine_id,
            "of_node": before.node,
            "here": host.machine_id,
        },
    )
    spool.start_stream(now_ms)


def _tell_damages(spool: Spool) -> None:
    if spool.recovered.damages:
        _LOGGER.warning(
            "parts of the spool are damaged; they are set aside",
            extra={"action": "spool_damage", "damages": spool.recovered.damages},
        )
    for gap in spool.missing():
        _LOGGER.error(
            "records are destroyed; the gap will be declared",
            extra={"action": "gap", "first": gap.first, "last": gap.last, "why": gap.reason},
        )


def _reboot(state: NodeState, now_ms: int, uptime_ms: int) -> None:
    state.reboot()
    if state.meters.accounts:
        state.meters.accounts.names = {}  # so that what is told from now on can be told apart
        state.meters.accounts.reboot(now_ms - uptime_ms, now_ms)


def _open_accounts(
    state: NodeState, now_ms: int, capacity: Mapping[ResourceType, int] | None
) -> None:
    """Keep the books of the node, from now on where there are none yet."""
    if capacity is None:
        state.meters.accounts = None
        return
    accounts = state.meters.accounts or NodeAccounts(position_ms=now_ms, seen_ms=now_ms)
    for type_, units in capacity.items():
        accounts.set_capacity(type_, units)
    state.meters.accounts = accounts
