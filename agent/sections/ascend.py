"""[ascend]: where the driver of Ascend NPUs is asked."""

from dataclasses import dataclass

from agent.config import Reader, check_path

SOURCE_NAMES = ("dcmi", "npu-smi")
"""All ways to ask it, the best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AscendSettings:
    """Which of `SOURCE_NAMES` are tried, in this order, and where they are.

    `library` "" = libdcmi.so where the driver's packages put it; `npu_smi` is a name on the
    PATH or an absolute path.
    """

    sources: tuple[str, ...] = SOURCE_NAMES
    library: str = ""
    npu_smi: str = "npu-smi"


def ask_ascend(reader: Reader) -> AscendSettings:
    """Take [ascend]."""
    return AscendSettings(
        sources=reader.names("ascend", "sources", SOURCE_NAMES, SOURCE_NAMES),
        library=reader.text("ascend", "library", "", _library),
        npu_smi=reader.text("ascend", "npu_smi", "npu-smi", _program),
    )


def _library(value: str) -> str | None:
    return check_path(value) if value else None


def _program(value: str) -> str | None:
    """A bare name is looked for; a path must not depend on where the agent was started."""
    if value and "/" not in value and "\0" not in value:
        return None
    return check_path(value) and "must be a name on the PATH or an absolute path"
