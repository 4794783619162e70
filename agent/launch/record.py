"""The job's file in the jobs directory, as `exec` writes it.

Written beside and renamed, so that nobody sees half of it; held locked by `exec` as long
as the job lives, so that the agent knows that its end will still be written.
"""

# Paths as text, since every import delays the command.
# ruff: noqa: PTH104

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Mapping

from agent.errors import LaunchError

TYPE_CHECKING = False  # importing it from `typing` would cost 3 ms
if TYPE_CHECKING:
    from typing import TypeAlias

    Values: TypeAlias = Mapping[str, str | int | list[int]]

_PAUSES_SECONDS = (0.0, 0.05, 0.2, 1.0, 3.0)
"""How long to wait before each attempt to write the end: a full disk may empty again."""


class Record:
    """One job's file. `values` are the keys that never change."""

    def __init__(self, directory: str, job_id: str, values: Values, mem_mi: str) -> None:
        """Describe the job; nothing is written yet."""
        self.path = f"{directory}/{job_id}.json"
        self._aside = f"{directory}/.{job_id}.tmp"
        self._values = values
        self._mem_mi = mem_mi
        self._held = -1

    def open(self, more: Values) -> None:
        """Write the file for the first time and hold it.

        Raises:
            LaunchError: it cannot be written; the job must not start unmetered.
        """
        try:
            self._held = self._write(more)
        except OSError as error:
            raise LaunchError(
                f"the job cannot be recorded in {self.path} ({error.strerror}), and nothing runs "
                "unmetered"
            ) from error

    def close(self, more: Values) -> str | None:
        """Write the file for the last time, trying again for some seconds.

        Returns:
            Why that was impossible; None = it is written.
        """
        reason = ""
        for pause in _PAUSES_SECONDS:
            time.sleep(pause)
            try:
                os.close(self._write(more))
            except OSError as error:
                reason = error.strerror or str(error)
            else:
                return None
        return reason

    def _write(self, more: Values) -> int:
        """Replace the file; returns the new one's descriptor, locked."""
        flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._aside, flags, 0o644)
        try:
            os.fchmod(fd, 0o644)  # the agent reads it, whatever the umask is
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_all(fd, self._render(more))
            os.rename(self._aside, self.path)
        except OSError:
            os.close(fd)
            raise
        return fd

    def _render(self, more: Values) -> bytes:
        """JSON by hand: a float would not be exact, and importing json costs 2 ms."""
        items = [f'"{key}": {_show(value)}' for key, value in {**self._values, **more}.items()]
        return ("{" + ", ".join([*items, f'"mem_mi": {self._mem_mi}']) + "}\n").encode()


def _show(value: str | int | list[int]) -> str:
    """Printable texts need no other escapes; a list of numbers looks the same in both."""
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
