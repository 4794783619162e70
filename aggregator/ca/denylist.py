"""The serial numbers that are not to be let in any more, as the authority's file has them."""

import json
from collections.abc import Mapping
from pathlib import Path

from aggregator.ca.reload import Reloaded


class DenyList:
    """Why a serial number is denied, as of the last `refresh`."""

    def __init__(self, path: Path) -> None:
        """Read it; raises `OSError` or `ValueError` where that cannot be done."""
        self._reasons = Reloaded([path], lambda: read_denied(path))

    def reason(self, serial: str) -> str | None:
        """Why it is denied; None = it is not."""
        return self._reasons.value.get(serial)

    def refresh(self) -> None:
        """Read the file again if it is another one now."""
        self._reasons.refresh()


def read_denied(path: Path) -> Mapping[str, str]:
    """The reason for each denied serial number.

    Raises `OSError`, or `ValueError` where a line is not what the authority writes.
    """
    return dict(_read_line(line) for line in path.read_text(encoding="utf-8").splitlines())


def _read_line(line: str) -> tuple[str, str]:
    match json.loads(line):
        case {"serial": str(serial), "reason": str(reason)}:
            return serial, reason
        case _:
            raise ValueError(f"the deny-list has a line without serial or reason: {line[:80]}")
