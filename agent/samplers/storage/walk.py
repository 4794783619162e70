"""Adds up what is below some paths, and harms nobody by it.

- Allocated blocks, as `du` counts them: a sparse file holds what it holds, folders count.
- Where an owner is given, what is somebody else's is passed over.
- A file with several names counts once; no link is followed; other file systems that are
  mounted below a path are not entered.
- Bounded: beyond so many entries or seconds the walk is given up. In between it pauses: at
  most a fifth of the time of one processor is used, and whoever waits for Python's lock gets
  it. (A lower priority for the thread would do the opposite: whoever is preempted while it
  holds the lock keeps the agent waiting.)

A part of a tree is no answer: what cannot be read makes the walk fail, and only what has
vanished meanwhile is passed over.
"""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agent.errors import SamplerError

_BATCH = 500
_PAUSES = 4
"""A pause is so many times as long as what went before it."""
_MAX_PAUSE_SECONDS = 1.0
_MAX_TWINS = 200_000
_MAX_WAITING = 100_000
"""More files with names elsewhere, or folders in one folder, would take tens of megabytes."""
_BLOCK = 512  # st_blocks counts these, whatever the file system's own are
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one walk."""

    entries: int
    seconds: float


class Walk:
    """One walk; use it once."""

    def __init__(
        self,
        limits: Limits,
        monotonic_ns: Callable[[], int],
        pause: Callable[[float], bool],
        owner: int | None = None,
    ) -> None:
        """`pause` waits for so many seconds, or says at once that the walk is to end.

        `owner`: nothing counts, nor is entered, but what is this account's; None = all does.
        """
        self._limits = limits
        self._monotonic_ns = monotonic_ns
        self._pause = pause
        self._owner = owner
        self._begun_ns = self._batch_ns = monotonic_ns()
        self._blocks = 0
        self._entries = 0
        self._twins: dict[tuple[int, int], int] = {}  # names that a file has elsewhere, by inode

    def bytes_below(self, paths: Sequence[str]) -> int:
        """What all these hold, and everything below them, each once.

        Raises:
            SamplerError: not all of it can be read, or it is too much; the path is named.
        """
        for path in outermost(paths):
            try:
                top = os.lstat(path)
            except OSError as error:
                raise SamplerError(f"{path}: {error.strerror}") from error
            if stat.S_ISLNK(top.st_mode):
                raise SamplerError(f"{path}: is a symbolic link; name what it points to")
            if self._is_foreign(top):
                raise SamplerError(f"{path}: is another user's; only root's files may name it")
            self._add(top, path)
            if stat.S_ISDIR(top.st_mode):
                self._walk(path, top.st_dev)
        return self._blocks * _BLOCK

    def _walk(self, top: str, device: int) -> None:
        """Go through the folders below `top`; those that are still to be read wait in a list."""
        folders = [top]
        while folders:
            folder = folders.pop()
            for name, entry in self._entries_of(folder, is_top=folder == top):
                path = f"{folder}/{name}"
                self._add(entry, path)
                is_here = entry.st_dev == device and not self._is_foreign(entry)
                if stat.S_ISDIR(entry.st_mode) and is_here:
                    folders.append(path)
            if len(folders) > _MAX_WAITING:
                raise SamplerError(f"{folder}: more than {_MAX_WAITING} folders wait to be read")

    def _entries_of(self, folder: str, *, is_top: bool) -> Iterator[tuple[str, os.stat_result]]:
        try:
            fd = os.open(folder, _OPEN_FOLDER)
        except FileNotFoundError as error:
            if is_top:
                raise SamplerError(f"{folder}: {error.strerror}") from error
            return
        except NotADirectoryError:  # replaced by something else meanwhile
            return
        except OSError as error:
            raise SamplerError(f"{folder}: {error.strerror}") from error
        try:
            if not self._is_foreign(os.fstat(fd)):  # the way there was changed meanwhile
                yield from _listed(fd)
        except OSError as error:
            raise SamplerError(f"{folder}: {error.strerror}") from error
        finally:
            os.close(fd)

    def _add(self, entry: os.stat_result, path: str) -> None:
        self._entries += 1
        if self._entries % _BATCH == 0:
            self._rest(path)
        if self._entries > self._limits.entries:
            raise SamplerError(f"{path}: there are more than {self._limits.entries} entries")
        if self._is_foreign(entry):
            return
        if entry.st_nlink == 1 or stat.S_ISDIR(entry.st_mode) or self._is_new(entry, path):
            self._blocks += entry.st_blocks

    def _is_foreign(self, entry: os.stat_result) -> bool:
        return self._owner is not None and entry.st_uid != self._owner

    def _is_new(self, entry: os.stat_result, path: str) -> bool:
        """Whether this is the first of a file's names that is met."""
        twin = (entry.st_dev, entry.st_ino)
        left = self._twins.pop(twin, None)
        if left != 1:  # there are more to come
            self._twins[twin] = (entry.st_nlink if left is None else left) - 1
        if len(self._twins) > _MAX_TWINS:
            raise SamplerError(f"{path}: more than {_MAX_TWINS} files have names elsewhere")
        return left is None

    def _rest(self, path: str) -> None:
        now_ns = self._monotonic_ns()
        if now_ns - self._begun_ns > self._limits.seconds * 1e9:
            raise SamplerError(f"{path}: not done after {self._limits.seconds:g} s")
        if self._pause(min(_MAX_PAUSE_SECONDS, (now_ns - self._batch_ns) * _PAUSES / 1e9)):
            raise SamplerError(f"{path}: the agent ends")
        self._batch_ns = self._monotonic_ns()


def _listed(fd: int) -> Iterator[tuple[str, os.stat_result]]:
    """What is in a folder, without what has vanished meanwhile."""
    with os.scandir(fd) as found:
        for entry in found:
            try:
                yield entry.name, entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue


def outermost(paths: Sequence[str]) -> Sequence[str]:
    """Leave out what is below another one, and what is named twice."""
    kept: list[str] = []
    for path in sorted({path.rstrip("/") or "/" for path in paths}, key=len):
        if not any(f"{path}/".startswith(f"{above.rstrip('/')}/") for above in kept):
            kept.append(path)
    return kept
