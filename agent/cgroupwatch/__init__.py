"""Hears of cgroups being made, emptied and removed at the instant, and reads their last CPU time.

A provider follows patterns of paths; a thread of its own waits for the kernel's events and
notes when what happened, so that a job that began and ended between two looks has its exact
length. The rules:

- a cgroup is known by its path and inode: one of the same name made later is another one;
- a start is the event's instant; of what was there before us it is None (see `oldest_ms`);
- an end is the instant of the removal; in v2 also the emptying is heard, and the CPU time
  is read then, before the removal takes it away (v1 tells nothing; what is missed there is
  in the parent's counter, and so unattributed, not lost);
- where events were lost, or there is no inotify, the tree is walked again.

With both hierarchies mounted the v1 controller that counts CPU is looked at first.
"""

from agent.cgroupwatch.found import Followed, FoundCgroup, Heard, Pattern
from agent.cgroupwatch.watch import CgroupWatch

__all__ = ["CgroupWatch", "Followed", "FoundCgroup", "Heard", "Pattern"]
