"""The serial numbers that are not to be let in any more, as the authority's file has them."""

from pathlib import Path

from aggregator.ca.ledger import read_denied
from aggregator.ca.reload import Reloaded


class DenyList:
    """Why a serial number is denied, as of the last `refresh`."""

    def __init__(self, path: Path) -> None:
        """Read it; raises `OSError` or `CaError` where that cannot be done."""
        self._reasons = Reloaded(
            [path], lambda: {each.serial: each.reason for each in read_denied(path)}
        )

    def reason(self, serial: str) -> str | None:
        """Why it is denied; None = it is not."""
        return self._reasons.value.get(serial)

    def refresh(self) -> None:
        """Read the file again if it is another one now."""
        self._reasons.refresh()
