"""What is known of the cgroups that one provider follows. Pure but for the lock."""

import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

Pattern = Sequence[re.Pattern[str]]
"""One expression per folder below the root of a hierarchy; the last one is a run's cgroup."""

_TWIN_MS = 40
"""systemd makes a cgroup in one hierarchy after the other; nobody has looked before this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundCgroup:
    """One incarnation of a cgroup that a pattern matches. Instants are agent time in ms."""

    path: str  # below the hierarchy's root
    names: tuple[str, ...]  # the folders that the expressions matched
    inode: int  # 0 = it was gone before we could look
    is_v2: bool
    born_at_ms: int | None = None  # None = it was there when we came
    emptied_at_ms: int | None = None  # its last process ended then, and none came since
    ended_at_ms: int | None = None
    cpu_us: int | None = None  # read when it was emptied

    @property
    def key(self) -> str:
        """Names this incarnation, also after a restart of the agent."""
        return f"{self.path}#{self.inode}" if self.inode else f"{self.path}@{self.born_at_ms}"


Heard = Callable[[FoundCgroup], None]


class Followed:
    """What one provider follows; made by `CgroupWatch.follow`."""

    def __init__(
        self, patterns: Sequence[Pattern], lock: threading.Lock, heard: Heard | None
    ) -> None:
        """Know of nothing yet."""
        self.patterns = patterns
        self._lock = lock
        self._heard = heard
        self._live: dict[str, FoundCgroup] = {}  # by path
        self._ended: dict[str, FoundCgroup] = {}  # by key

    def found(self) -> Sequence[FoundCgroup]:
        """Everything that lives, and what has ended until it is settled."""
        with self._lock:
            return [*self._live.values(), *self._ended.values()]

    def settle(self, keys: Iterable[str]) -> None:
        """Forget these ended ones; unknown keys are passed over."""
        with self._lock:
            for key in keys:
                self._ended.pop(key, None)

    # What follows is called under the lock, by the watch.

    def live(self) -> Mapping[str, FoundCgroup]:
        """Those that live, by path."""
        return self._live

    def begin(self, cgroup: FoundCgroup) -> bool:
        """Take one that appeared; False = it is known."""
        known = self._live.get(cgroup.path)
        if known and known.is_v2 is not cgroup.is_v2:
            if known.is_v2 and _is_made_with(known, cgroup):
                self._live[cgroup.path] = replace(cgroup, born_at_ms=known.born_at_ms)
                self.hear(cgroup.path)
            return False
        if known and known.inode == cgroup.inode:
            return False
        if known:
            self.end(cgroup.path, cgroup.born_at_ms or known.born_at_ms or 0)
        self._live[cgroup.path] = cgroup
        self.hear(cgroup.path)
        return True

    def hear(self, path: str) -> None:
        """Say that a live one is new, or has another limit."""
        cgroup = self._live.get(path)
        if cgroup is not None and self._heard is not None:
            self._heard(cgroup)

    def change(self, cgroup: FoundCgroup) -> None:
        """Take the new state of a live one."""
        self._live[cgroup.path] = cgroup

    def end(self, path: str, at_ms: int) -> bool:
        """Take the removal of one; False = it is not known."""
        cgroup = self._live.pop(path, None)
        if cgroup is not None:
            self._ended[cgroup.key] = replace(cgroup, ended_at_ms=at_ms)
        return cgroup is not None


def _is_made_with(known: FoundCgroup, twin: FoundCgroup) -> bool:
    """Whether the twin in v1, which a walk finds first, was made at once with the one in v2."""
    if known.born_at_ms is None or twin.born_at_ms is None:
        return False
    return twin.born_at_ms - known.born_at_ms <= _TWIN_MS
