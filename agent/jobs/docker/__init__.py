"""The `docker` provider: containers of Docker and Podman.

The cgroups say who lives, the engine only whose it is. The rules:

- a container is known by its cgroup, so a restart is another run;
- it is asked for when its cgroup appears, and again when its limits change; what is known
  stays known without the engine, and a run goes on and ends without it;
- one that appears while the engine is slow waits for its answer, at most half a minute;
  then it is metered by its id and the limits of its cgroup, and `problems` says so;
- of one that was there before us the engine may have told us once: for the same half minute
  there is no complete answer, and the runs of before stand; no longer, or one container would
  keep all others from being metered;
- a cgroup that may be another runtime's is not metered until an engine knows it;
- Podman has no daemon. Where none listens, its containers are metered by their ids;
- what belongs to Kubernetes is left to that provider.

Labels are the word of who may start containers, which is root's with an engine of the
machine. The username of a rootless container is the account that runs it.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from agent.background import Background
from agent.cgroups import find_hierarchies
from agent.cgroupwatch import FoundCgroup
from agent.context import Context
from agent.errors import ProviderError
from agent.jobs.docker.container import Container
from agent.jobs.docker.describe import Describer
from agent.jobs.docker.identities import LIST_EVERY_MS, Identities
from agent.jobs.docker.places import Place, patterns, place_of
from agent.jobs.found import run_key
from agent.jobs.limits import LimitReader, Limits
from agent.jobs.terms import Problem
from agent.model import Run, RunKey

GRACE_MS = 30_000
"""How long a container waits for the engine's word."""
FIRST_ANSWER_SECONDS = 3.0
"""How long the first look waits for it."""


def open_docker_provider(context: Context) -> "DockerProvider":
    """Make the provider that the settings describe."""
    return DockerProvider(context)


class DockerProvider:
    """See the module."""

    name = "docker"

    def __init__(self, context: Context) -> None:
        """Follow every place where containers may be."""
        self._context = context
        settings = context.settings.docker
        self._parents = settings.parents
        self._units: dict[str, _Unit] = {}  # by a cgroup's key
        self._limits = LimitReader(find_hierarchies(str(context.settings.cgroup.root)))
        self._describer = Describer(context)
        self._identities = Identities(
            settings, now_ms=context.now_ms, found_ids=self._found_ids, told=context.wake
        )
        self._background: Background[None] = Background(
            "docker",
            self._identities.ask,
            every_seconds=LIST_EVERY_MS / 1000,
            now_ms=context.now_ms,
            told=lambda: None,
        )
        self._is_started = False
        self._followed = context.cgroups.follow(patterns(self._parents), self._hear)

    def runs(self) -> Sequence[Run]:
        """Every container that lives, and every ended one until it is `settled`.

        Raises:
            ProviderError: a container that was there before us cannot be described yet.
        """
        self._context.cgroups.scan()
        now_ms = self._context.now_ms()
        found = {cgroup.key: cgroup for cgroup in self._followed.found()}
        for key, cgroup in found.items():
            self._look(key, cgroup, now_ms)
        self._identities.forget_all_but(found.keys())
        self._ask()
        judged = [self._judge(self._units[key], cgroup, now_ms) for key, cgroup in found.items()]
        self._forget(unit.key for unit in self._units.values() if unit.is_lost)
        return [run for run in judged if run]

    def watch_paths(self) -> Sequence[Path]:
        """None: cgroups are heard of otherwise."""
        return ()

    def settled(self, keys: Collection[RunKey]) -> None:
        """Forget these ended containers."""
        ended = set(keys)
        units = list(self._units.values())
        self._forget(unit.key for unit in units if unit.has_ended and unit.run_key in ended)

    def problems(self) -> Sequence[Problem]:
        """Engines that do not answer, and containers of which too little is known."""
        failure = self._background.answer.failure
        engines = [Problem(source="docker", message=failure)] if failure else []
        return [*engines, *self._half_known(), *self._missing()]

    def _half_known(self) -> Iterator[Problem]:
        for unit in self._units.values():
            if unit.container is not None or not (unit.run or unit.is_in_doubt):
                continue
            message = "is not metered until an engine says that it is a container"
            if unit.run is not None:
                message = "is metered by its id, without user and devices"
            yield Problem(source=unit.path, message=f"{message}: {self._why_unknown(unit)}")

    def _missing(self) -> Iterator[Problem]:
        for id_, name in self._identities.missing.items():
            message = f"container {name} runs in no cgroup that is looked at"
            yield Problem(source=id_, message=f"{message}; name its parent as [docker] parents")

    def _why_unknown(self, unit: "_Unit") -> str:
        if self._identities.is_known(unit.key):
            return "no engine knows it"
        if not self._identities.sockets():
            places = ", ".join(self._context.settings.docker.sockets)
            return f"no engine listens at {places}; name its socket in [docker] sockets"
        failure = self._identities.failed.get(unit.key) or self._background.answer.failure
        return failure or "no engine has said yet whose it is"

    # Who lives ---------------------------------------------------------------------------

    def _look(self, key: str, cgroup: FoundCgroup, now_ms: int) -> None:
        """Meet it, and ask again where its limits are not what they were."""
        unit = self._units.get(key)
        if unit is None:
            place = place_of(cgroup.names, self._parents)
            unit = self._units[key] = _Unit(cgroup, place, run_key(self.name, cgroup), now_ms)
            self._identities.want(key, place.id, place.uid)
        unit.has_ended = cgroup.ended_at_ms is not None
        if unit.has_ended:
            self._limits.forget(cgroup.path)
            return
        limits = self._limits.read(cgroup.path)
        if unit.limits is None:
            unit.limits = limits
        elif limits != unit.limits and (limits := limits.after(unit.limits)) != unit.limits:
            unit.limits = limits
            self._identities.want(key, unit.place.id, unit.place.uid)

    def _judge(self, unit: "_Unit", cgroup: FoundCgroup, now_ms: int) -> Run | None:
        """The run as it is now, the same object where nothing has changed; None = none yet."""
        container = self._identities.get(unit.key)
        if container is not None:
            unit.is_left, unit.is_in_doubt = container.is_pods, False
        elif not self._is_metered_unknown(unit, now_ms):
            return None
        if unit.is_left:
            return None
        state = (container, unit.limits if container is None else None, cgroup.ended_at_ms)
        if unit.run is None or unit.state != state:
            unit.run = self._describer.describe(unit.run_key, unit.place, cgroup, *state[:2])
            unit.state, unit.container = state, container
        return unit.run

    def _is_metered_unknown(self, unit: "_Unit", now_ms: int) -> bool:
        """Whether one of which the engines have not told is metered nevertheless."""
        if self._identities.is_known(unit.key) or not self._is_expected(unit.place):
            unit.is_left, unit.is_in_doubt = not unit.place.is_certain, False
            return unit.place.is_certain
        is_late = now_ms - unit.since_ms >= GRACE_MS
        unit.is_in_doubt = is_late and not unit.place.is_certain and not unit.has_ended
        if unit.is_old and unit.run is None and not is_late:
            reason = self._why_unknown(unit)
            raise ProviderError(f"container {unit.place.id[:12]} cannot be described: {reason}")
        return unit.run is not None or (is_late and unit.place.is_certain)

    def _is_expected(self, place: Place) -> bool:
        """Whether an engine may still say whose it is."""
        if not self._context.is_live:
            return False
        is_docker = place.is_dockers and place.uid is None
        return is_docker or self._identities.has_answered or bool(self._identities.sockets())

    def _forget(self, keys: Iterable[str]) -> None:
        gone = list(keys)
        if not gone:
            return
        self._followed.settle(gone)
        self._identities.forget(gone)
        self._describer.forget(gone)
        for key in gone:
            self._units.pop(key, None)

    # The engine --------------------------------------------------------------------------

    def _hear(self, cgroup: FoundCgroup) -> None:
        """In the thread of the watch: one began, or its limits changed."""
        place = place_of(cgroup.names, self._parents)
        self._identities.want(cgroup.key, place.id, place.uid)
        self._background.request()

    def _ask(self) -> None:
        """See that the engines are asked; the first time, wait a little for their answer."""
        if not self._context.is_live or not (self._units or self._identities.sockets()):
            return
        if not self._is_started:
            self._is_started = True
            has_old = any(unit.is_old for unit in self._units.values())
            self._background.start(FIRST_ANSWER_SECONDS if has_old else 0.0)
        elif not self._identities.is_complete:
            self._background.request()

    def _found_ids(self) -> Collection[str]:
        return {place_of(cgroup.names, ()).id for cgroup in self._followed.found()}


class _Unit:
    """What is remembered of one container's cgroup."""

    __slots__ = (
        "container",
        "has_ended",
        "is_in_doubt",
        "is_left",
        "is_old",
        "key",
        "limits",
        "path",
        "place",
        "run",
        "run_key",
        "since_ms",
        "state",
    )

    def __init__(self, cgroup: FoundCgroup, place: Place, key: RunKey, now_ms: int) -> None:
        self.key = cgroup.key
        self.path = cgroup.path
        self.place = place
        self.run_key = key
        self.since_ms = now_ms if cgroup.born_at_ms is None else cgroup.born_at_ms
        self.is_old = cgroup.born_at_ms is None  # it may have been told of before a restart
        self.has_ended = False
        self.is_in_doubt = False  # only an engine could say that it is a container, and none does
        self.is_left = False  # it is somebody else's to meter
        self.limits: Limits | None = None
        self.run: Run | None = None
        self.container: Container | None = None  # that the run was described by
        self.state: tuple[Container | None, Limits | None, int | None] | None = None

    @property
    def is_lost(self) -> bool:
        """Whether nobody will settle it."""
        return self.has_ended and self.is_left
