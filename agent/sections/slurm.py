"""[slurm]: where Slurm puts its jobs on this node, and what makes a vc of them."""

from dataclasses import dataclass

from agent.config import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmSettings:
    """See `ask_slurm`."""


def ask_slurm(_reader: Reader) -> SlurmSettings:
    """Take [slurm]."""
    return SlurmSettings()
