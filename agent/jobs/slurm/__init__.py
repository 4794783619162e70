"""The `slurm` provider: every job that Slurm runs on this node, by its cgroup.

The rules, in the order of their weight:

- The cgroups decide who lives, and nothing else: a job begins and ends with its cgroup, in
  v1 and v2, also while it is suspended. A requeued job has another cgroup, and is another run.
- A job is metered as a whole, not by step or task.
- Who it is takes a moment to learn, in threads of their own: from the path and slurmstepd,
  which are Slurm's; from files that a prolog left; from the environment of the job's first
  process, if it is the job's own; from scontrol, once a job, where these leave something
  open. A job that is not known half a minute after its birth is metered with what is known.
- Quotas are what was allocated: the limits of the cgroup, else what Slurm says. A job that
  requested no memory has 0, also where Slurm limits it to the node's.

A folder that was left behind without a process is no job, or is none any more.
"""

from agent.jobs.slurm.provider import SlurmProvider, open_slurm_provider

__all__ = ["SlurmProvider", "open_slurm_provider"]
