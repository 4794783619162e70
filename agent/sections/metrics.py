"""[metrics]: where the agent's own figures go. The agent listens on nothing."""

from dataclasses import dataclass
from pathlib import Path

from agent.config import Reader, check_path


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """`textfile` None = nowhere."""

    textfile: Path | None


def ask_metrics(reader: Reader) -> MetricsSettings:
    """Take [metrics]; a file for node_exporter's textfile collector must end in .prom."""
    path = reader.text("metrics", "textfile", "", _textfile)
    return MetricsSettings(textfile=Path(path) if path else None)


def _textfile(value: str) -> str | None:
    if not value:
        return None
    if not value.endswith(".prom"):
        return "must end in .prom, or the textfile collector does not take it"
    return check_path(value)
