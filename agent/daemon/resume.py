"""Goes on from the newest checkpoint of the spool, or begins with nothing."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.accounts import NodeAccounts
from agent.clock import AgentClock
from agent.model import ResourceType
from agent.spool import Spool
from agent.state import Meters, NodeState, load

_NUMBERS_PER_FRAME = 20  # bits: no frame defines more runs and meters
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """`suspended_ms` None = the checkpoint is not of this boot, or there is none."""

    state: NodeState
    suspended_ms: int | None


def resume(
    *,
    spool: Spool,
    clock: AgentClock,
    meters: Meters,
    uptime_ms: Callable[[], int],
    capacity: Mapping[ResourceType, int] | None,
) -> Resumed:
    """Read the state back, and the clock with it; `meters` begin where there is none.

    `capacity` None = the books of the node are not kept.

    Raises:
        CheckpointError: another version of the agent wrote it.
    """
    _tell_damages(spool)
    recovered = spool.recovered
    suspended_ms: int | None = None
    if recovered.checkpoint is None:
        if spool.last_sequence:
            meters.next_number = spool.last_sequence + 1 << _NUMBERS_PER_FRAME
        state = NodeState(meters)
    else:
        hold_ms, cpu_model = meters.hold_ms, meters.cpu_model
        checkpoint = load(recovered.checkpoint, hold_ms=hold_ms, cpu_model=cpu_model)
        state = checkpoint.state
        if clock.resume(checkpoint.anchor):
            suspended_ms = checkpoint.suspended_ms
        else:
            _reboot(state, clock.now_ms(), uptime_ms())
    _open_accounts(state, clock.now_ms(), capacity)
    if recovered.floor_ms is not None:
        state.forfeit(min(recovered.floor_ms, clock.now_ms()))
    return Resumed(state=state, suspended_ms=suspended_ms)


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
