"""[nvidia]: where NVIDIA's library is, if the system's loader does not know."""

from dataclasses import dataclass

from agent.config import Reader, check_path


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaSettings:
    """`library` is the path of libnvidia-ml.so.1; "" = it is found."""

    library: str = ""


def ask_nvidia(reader: Reader) -> NvidiaSettings:
    """Take [nvidia]."""
    return NvidiaSettings(library=reader.text("nvidia", "library", "", _check_library))


def _check_library(value: str) -> str | None:
    return check_path(value) if value else None
