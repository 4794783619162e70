"""The links by which the commands of a virtual environment find the `make run` that runs.

They belong to one run at a time, the one that holds their lock, from when it is up until it
ends; others leave them alone. The kernel gives the lock back where a run is killed, so what
that one left dangling is replaced by the next.
"""

import fcntl
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_NAMES = ("agent.toml", "aggregator.toml")


@dataclass(slots=True, kw_only=True)
class Links:
    """The links in `folder` to the files in `state`: ours once `hold` says so."""

    state: Path
    folder: Path
    held: IO[str] | None = None

    def hold(self) -> bool:
        """Take the links unless a living run has them; whether they are ours. Call it again."""
        if self.held is None:
            with suppress(OSError):  # another run's, or not ours to write at all
                self.held = self._locked()
        return self.held is not None

    def holder(self) -> str | None:
        """The state directory of the run that has them; None where none is known."""
        try:
            return self._lock_path().read_text(encoding="utf-8").strip() or None
        except OSError:
            return None

    def release(self) -> None:
        """Remove what is ours."""
        if self.held is None:
            return
        for name in _NAMES:
            link = self.folder / name
            if link.is_symlink() and link.readlink() == self.state / name:
                link.unlink()
        self.held.truncate(0)
        self.held.close()
        self.held = None

    def _locked(self) -> IO[str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = self._lock_path().open("a", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in _NAMES:
                _point(self.folder / name, self.state / name)
            lock.truncate(0)
            lock.write(f"{self.state}\n")
            lock.flush()
        except BaseException:
            lock.close()
            raise
        return lock

    def _lock_path(self) -> Path:
        return self.folder / "make-run.lock"


@contextmanager
def linked_configs(state: Path, prefix: Path) -> Generator[Links]:
    """While this runs, the commands of the environment at `prefix` may find the files of `state`.

    They do from the start unless another run has them; else once `hold` takes them.
    """
    links = Links(state=state, folder=prefix / "etc/nodemeter")
    links.hold()
    try:
        yield links
    finally:
        links.release()


def _point(link: Path, file: Path) -> None:
    draft = link.with_name(link.name + ".new")
    draft.unlink(missing_ok=True)
    draft.symlink_to(file)
    draft.replace(link)
