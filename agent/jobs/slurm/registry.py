"""Asks who a user is and what Slurm's controller knows of a job, in a thread of its own.

Both may take their time (a directory service, a controller that restarts), and neither may
hold up a look. An answer is kept; a controller that does not answer is asked again, but
nobody is asked twice after an answer.
"""

import pwd
import time
from collections.abc import Callable
from pathlib import Path

from agent.background import Background
from agent.context import NowMs
from agent.errors import ProviderError
from agent.jobs.slurm.facts import Facts
from agent.jobs.slurm.scontrol import NoProgramError, read_job, show_job

_AGAIN_SECONDS = 10.0

NameOf = Callable[[int], str | None]


class Registry:
    """Names and job records, as far as they are known now."""

    def __init__(
        self,
        name_of: NameOf,
        program: str | None,
        *,
        now_ms: NowMs,
        told: Callable[[], None],
        is_live: bool = True,
    ) -> None:
        """Ask `name_of` for users, and `program` (scontrol; None = never) for jobs.

        Without `is_live` there are only names, and they are there at once.
        """
        self._is_live = is_live
        self._name_of = name_of
        self._program = program
        self._names: dict[int, str] = {}
        self._records: dict[str, Facts | None] = {}
        self._wanted_names: dict[int, None] = {}
        self._wanted_jobs: dict[str, tuple[str, str | None]] = {}  # number and node
        self._told = told
        self._has_news = False
        self._missing: str | None = None  # there is no such program
        self._silence: str | None = None  # why the controller did not answer last
        self._silent_until = 0.0
        self._thread: Background[None] = Background(
            "slurm asks", self._ask, every_seconds=_AGAIN_SECONDS, now_ms=now_ms, told=self._tell
        )

    @property
    def failure(self) -> str | None:
        """Why the controller's answer is missing; None = it is not."""
        return self._thread.answer.failure

    def username(self, uid: int) -> str | None:
        """The account's name, its number where it has none; None = not known yet."""
        name = self._names.get(uid)
        if name is None and not self._is_live:
            name = self._names[uid] = self._name_of(uid) or str(uid)
        if name is None and uid not in self._wanted_names:
            self._wanted_names[uid] = None
            self._request()
        return name

    def record(self, key: str, job: str, node: str | None) -> tuple[Facts | None, bool]:
        """What the controller says of a job on this node, and whether it has answered.

        No answer will come where it is never asked: that counts as one. `key` names the run,
        since a requeued job is another one of the same number.
        """
        if self._program is None or key in self._records:
            return self._records.get(key), True
        if key not in self._wanted_jobs:
            self._wanted_jobs[key] = job, node
            self._request()
        return None, False

    def forget(self, key: str) -> None:
        """Let go of a run's record."""
        self._wanted_jobs.pop(key, None)
        self._records.pop(key, None)

    def close(self) -> None:
        """Ask no more."""
        self._thread.close()

    def _request(self) -> None:
        self._thread.start()
        self._thread.request()

    def _tell(self) -> None:
        """Tell what was learned; an attempt in vain is no news."""
        if self._has_news:
            self._has_news = False
            self._told()

    def _ask(self) -> None:
        for uid in list(self._wanted_names):
            self._names[uid] = self._name_of(uid) or str(uid)
            self._wanted_names.pop(uid, None)
            self._has_news = True
        if self._program is not None and time.monotonic() >= self._silent_until:
            for key, (job, node) in list(self._wanted_jobs.items()):
                self._records[key] = self._ask_for(self._program, job, node)
                self._wanted_jobs.pop(key, None)
                self._has_news = True
        if self._wanted_jobs or self._missing:
            raise ProviderError(self._missing or self._silence or "not asked yet")

    def _ask_for(self, program: str, job: str, node: str | None) -> Facts | None:
        """What the controller says; None = nothing that is certain, and nothing will come.

        Raises:
            ProviderError: the controller does not answer.
        """
        self._missing = None
        try:
            text = show_job(program, job)
        except NoProgramError as error:
            self._missing, text = str(error), None
        except ProviderError as error:
            self._silence = str(error)
            self._silent_until = time.monotonic() + _AGAIN_SECONDS - 1
            raise
        return None if text is None else read_job(text, job, node)


def account_name(uid: int) -> str | None:
    """The account's name on this machine; None = it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def names_in(passwd: Path) -> NameOf:
    """Names as a saved /etc/passwd has them; none where there is no such file."""
    try:
        lines = passwd.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    entries = (line.split(":") for line in lines)
    names = {int(entry[2]): entry[0] for entry in entries if _is_entry(entry)}
    return names.get


def _is_entry(entry: list[str]) -> bool:
    return len(entry) > 2 and entry[2].isascii() and entry[2].isdecimal()
