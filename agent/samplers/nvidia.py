"""The `nvidia` sampler."""

from agent.context import Context
from agent.samplers import Sampler


def open_nvidia_sampler(_context: Context) -> Sampler | None:
    """There is nothing for it yet."""
    return None
