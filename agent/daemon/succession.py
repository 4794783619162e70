"""Goes over to a new stream, when the old one is not ours any more."""

from collections.abc import Callable

from agent.daemon.recorder import Recorder
from agent.daemon.retell import Origin, retold
from agent.spool import Spool
from agent.state import NodeState


def begin_stream(
    *,
    spool: Spool,
    state: NodeState,
    recorder: Recorder,
    origin: Origin,
    now_ms: int,
    uptime_ms: Callable[[], int],
) -> int:
    """Give up what is not ours to tell; give the number of frames that are told again.

    Raises:
        SpoolFullError: there is no room, and the old stream stays as it is.
    """
    if origin.is_renamed:
        spool.start_stream(now_ms)
        recorder.give_up()
        state.forfeit(now_ms)
        return 0
    frames = spool.start_stream(
        now_ms, lambda batch, sequence: retold(batch, sequence, origin), origin.sequence
    )
    if origin.number:
        recorder.give_up()
        state.disown(origin.number, now_ms - uptime_ms())
    return frames
