"""[metrics]: see `ask_metrics`."""

from dataclasses import dataclass

from agent.config import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """See `ask_metrics`."""


def ask_metrics(_reader: Reader) -> MetricsSettings:
    """Take [metrics]."""
    return MetricsSettings()
