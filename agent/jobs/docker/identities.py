"""Asks the engines whose the containers are, each container once; runs in the background.

What is known is kept here, and stays known when an engine is gone. An engine that does not
answer is not asked for the next container of the same attempt; one answer that cannot be
used hurts no other container.
"""

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from glob import glob
from typing import NamedTuple

from agent.context import NowMs
from agent.errors import ProviderError
from agent.jobs.docker.container import Container, parse_container, parse_running
from agent.jobs.docker.engine import EngineDownError, get, may_speak_of
from agent.sections.docker import DockerSettings

LIST_EVERY_MS = 600_000
"""How often the list of all containers is compared with what was found: it may start Podman."""


class _Wanted(NamedTuple):
    id: str
    uid: int | None  # whose rootless container it is


class Identities:
    """By the key of a container's cgroup. `ask` is called by one thread, the rest by any."""

    def __init__(
        self,
        settings: DockerSettings,
        *,
        now_ms: NowMs,
        found_ids: Callable[[], Collection[str]],
        told: Callable[[], None],
    ) -> None:
        """Know nothing; `told` is called when something is known that was not before."""
        self._settings = settings
        self._now_ms = now_ms
        self._found_ids = found_ids
        self._told = told
        self._lock = threading.Lock()
        self._wanted: dict[str, _Wanted] = {}
        self._known: dict[str, Container | None] = {}
        self._stray: set[str] = set()
        self._listed_at_ms: int | None = None
        self._running: Mapping[str, str] = {}  # of the last list: name by id
        self.failed: dict[str, str] = {}  # why no engine could say this one's
        self.missing: Mapping[str, str] = {}  # run, but in no cgroup that is looked at
        self.has_answered = False

    def sockets(self) -> Sequence[str]:
        """Those that exist now."""
        return [path for pattern in self._settings.sockets for path in glob(pattern)]  # noqa: PTH207  a Path costs ten times that

    def want(self, key: str, id_: str, uid: int | None) -> None:
        """Ask for this one at the next attempt, also if it is known."""
        with self._lock:
            self._wanted[key] = _Wanted(id_, uid)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to ask."""
        return not self._wanted

    def is_known(self, key: str) -> bool:
        """Whether the engines have said what they can say."""
        return key in self._known

    def get(self, key: str) -> Container | None:
        """What they said; None = nothing yet, or that none of them has it."""
        return self._known.get(key)

    def forget_all_but(self, keys: Collection[str]) -> None:
        """Let go of whom nobody has found twice in a row: a name that was soon another one."""
        with self._lock:
            stray = {*self._wanted, *self._known}.difference(keys)
        self.forget(stray & self._stray)
        self._stray = stray

    def forget(self, keys: Collection[str]) -> None:
        """Let go of what was kept for these."""
        with self._lock:
            for key in keys:
                self._wanted.pop(key, None)
                self._known.pop(key, None)
                self.failed.pop(key, None)

    def ask(self) -> None:
        """Ask for all that are wanted.

        Raises:
            ProviderError: an engine does not answer, or not what it should.
        """
        with self._lock:
            wanted = dict(self._wanted)
        sockets, down = self.sockets(), dict[str, str]()
        has_news = False
        for key, want in wanted.items():
            has_news |= self._identify(key, want, sockets, down)
        if has_news:
            self._told()
        faults = [*down.values(), *self._list(sockets, down)]
        if faults:
            raise ProviderError("; ".join(faults))

    def _identify(
        self, key: str, want: _Wanted, sockets: Sequence[str], down: dict[str, str]
    ) -> bool:
        """Ask one engine after the other; whether it is known now."""
        failures: list[str] = []
        for path in sockets:
            container = self._try(path, want, down, failures)
            if container is not None:
                return self._learn(key, want, container)
        if sockets and not failures:
            return self._learn(key, want, None)
        if failures:
            self.failed[key] = failures[-1]
        return False

    def _try(
        self, path: str, want: _Wanted, down: dict[str, str], failures: list[str]
    ) -> Container | None:
        """Ask one engine, and note how it failed."""
        if not may_speak_of(_owner_of(path), want.uid):
            return None
        try:
            container = None if path in down else self._inspect(path, want)
        except EngineDownError as error:
            down[path] = str(error)
            container = None
        except (ProviderError, ValueError) as error:
            failures.append(f"container {want.id[:12]} at {path}: {error}")
            return None
        if path in down:
            failures.append(down[path])
        else:
            self.has_answered = True
        return container

    def _inspect(self, path: str, want: _Wanted) -> Container | None:
        """Ask one engine; None = it is not its own, or not its to say."""
        status, body, listener = get(path, f"/containers/{want.id}/json")
        if status == 404 or not may_speak_of(listener, want.uid):
            return None
        if status != 200:
            raise ProviderError(f"the engine answers with status {status}")
        container = parse_container(body, self._settings.gpu_runtimes)
        if container.id != want.id:
            raise ProviderError("the engine answers with another container")
        return container

    def _learn(self, key: str, want: _Wanted, container: Container | None) -> bool:
        with self._lock:
            if self._wanted.get(key) is want:
                del self._wanted[key]
            self.failed.pop(key, None)
            if container is not None or key not in self._known:
                self._known[key] = container
        return True

    def _list(self, sockets: Sequence[str], down: dict[str, str]) -> Sequence[str]:
        """Look from time to time whether all that run were found; returns what failed."""
        now_ms = self._now_ms()
        if self._listed_at_ms is not None and now_ms - self._listed_at_ms < LIST_EVERY_MS:
            return []
        self._listed_at_ms = now_ms
        running: dict[str, str] = {}
        faults: list[str] = []
        for path in sockets:
            try:
                if path not in down:
                    running |= _running_at(path)
            except (ProviderError, ValueError) as error:
                faults.append(f"the list of containers at {path}: {error}")
        unseen = running.keys() - set(self._found_ids())
        self.missing = {id_: running[id_] for id_ in unseen if id_ in self._running}
        self._running = running
        return faults


def _running_at(path: str) -> Mapping[str, str]:
    status, body, _ = get(path, "/containers/json")
    if status != 200:
        raise ProviderError(f"the engine answers with status {status}")
    return parse_running(body)


def _owner_of(path: str) -> int:
    """Whose the socket is; whoever listens there is asked of the kernel once more."""
    try:
        return os.stat(path).st_uid  # noqa: PTH116  as above
    except OSError:
        return 0  # it is gone: to ask there tells why
