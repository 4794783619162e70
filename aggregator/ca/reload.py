"""Notices that files were replaced, so that what was made of them can be made anew."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

from aggregator.errors import NodemeterError

_LOGGER: Final = logging.getLogger(__name__)
_T = TypeVar("_T")


class Reloaded(Generic[_T]):
    """What `make` makes of `paths`, and makes again whenever one of them is another file.

    A file that cannot be used does not undo what was made before; it is logged once.
    """

    def __init__(self, paths: Sequence[Path], make: Callable[[], _T]) -> None:
        """Make it for the first time; raises what `make` raises, or `OSError`."""
        self._paths = paths
        self._make = make
        self._stamps = self._look()
        self.value = make()

    def refresh(self) -> bool:
        """Whether there is a new value now."""
        try:
            stamps = self._look()
            if stamps == self._stamps:
                return False
            self._stamps = stamps
            self.value = self._make()
        except (OSError, ValueError, NodemeterError) as error:
            _LOGGER.error(  # noqa: TRY400  the words say it
                "a file cannot be used; what it said before holds",
                extra={
                    "action": "reload",
                    "files": ",".join(map(str, self._paths)),
                    "error": str(error),
                },
            )
            return False
        return True

    def _look(self) -> Sequence[tuple[int, int, int]]:
        found = [path.stat() for path in self._paths]
        return [(each.st_ino, each.st_mtime_ns, each.st_size) for each in found]
