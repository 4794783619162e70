"""What the opener gets; imports nothing that the agent would not."""

from dataclasses import replace

from agent.cgroups import find_hierarchies
from agent.cgroupwatch import CgroupWatch
from agent.config import Reader
from agent.context import Context
from agent.procfs import ProcFs
from agent.settings import build_settings


def context_of(root: str, library: str, *, is_live: bool = True) -> Context:
    """A node whose /proc and /sys lie below `root`."""
    reader = Reader({}, {"NODEMETER_NVIDIA_LIBRARY": library})
    settings = build_settings(reader, "test")
    assert not reader.problems()
    settings = replace(settings, root=root)
    procfs = ProcFs()
    watch = CgroupWatch(find_hierarchies(root), now_ms=int, told=lambda: None, procfs=procfs)
    return Context(settings=settings, now_ms=int, cgroups=watch, wake=lambda: None, is_live=is_live)
