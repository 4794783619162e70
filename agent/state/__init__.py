"""What the agent knows of its node, what it can tell of it, and how that survives a kill."""

from agent.state.checkpoint import UNKNOWN_HOST, Checkpoint, Host, dump, load
from agent.state.draft import Draft, EndedRun, take_draft
from agent.state.ends import Moment
from agent.state.meters import Meters
from agent.state.node import NodeState

__all__ = [
    "UNKNOWN_HOST",
    "Checkpoint",
    "Draft",
    "EndedRun",
    "Host",
    "Meters",
    "Moment",
    "NodeState",
    "dump",
    "load",
    "take_draft",
]
