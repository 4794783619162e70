"""[docker]: see `ask_docker`."""

from dataclasses import dataclass

from agent.config import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerSettings:
    """See `ask_docker`."""


def ask_docker(_reader: Reader) -> DockerSettings:
    """Take [docker]."""
    return DockerSettings()
