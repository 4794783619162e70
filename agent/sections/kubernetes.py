"""[kubernetes]: see `ask_kubernetes`."""

from dataclasses import dataclass

from agent.config import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesSettings:
    """See `ask_kubernetes`."""


def ask_kubernetes(_reader: Reader) -> KubernetesSettings:
    """Take [kubernetes]."""
    return KubernetesSettings()
