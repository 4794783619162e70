"""The `systemd` provider: units of this node that the settings call jobs, by their cgroups.

systemd itself is never asked: a unit is its cgroup, its quotas are the limits of that
cgroup. The rules:

- a unit that lies in another one that is a job is a part of that one;
- limits are read at each look, and at the instant they change where the kernel tells (v2);
  a change is a change of quota. What was read last holds for a unit that is gone;
- a cgroup is made first and limited then: one that is younger than a moment waits for the
  next look, so that it does not begin without its quotas.

Where neither a quota, a slice nor a template says whose it is, the username is None.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from agent.cgroups import find_hierarchies
from agent.cgroupwatch import FoundCgroup
from agent.context import Context
from agent.errors import ProviderError
from agent.jobs.found import Starts, final_readings, run_key
from agent.jobs.limits import UNLIMITED, LimitReader, Limits
from agent.jobs.reading import user_name
from agent.jobs.systemd.units import UnitPattern, fields_of, fill
from agent.jobs.terms import Problem
from agent.model import Run, RunKey

_YOUNG_MS = 40
"""Less than the daemon gathers events for: only a look that was due anyway meets such a one."""


def open_systemd_provider(context: Context) -> "SystemdProvider":
    """Make the provider that the settings describe."""
    return SystemdProvider(context)


class SystemdProvider:
    """Answers from the cgroup tree; see the module for its rules."""

    name = "systemd"

    def __init__(self, context: Context) -> None:
        """Follow the units that the settings name; without any, look at nothing."""
        self._context = context
        self._settings = context.settings.systemd
        self._patterns = [UnitPattern(text) for text in self._settings.units]
        hierarchies = find_hierarchies(str(context.settings.cgroup.root))
        self._is_mounted = bool(hierarchies.v1) or hierarchies.v2 is not None
        self._reader = LimitReader(hierarchies)
        self._limits: dict[str, Limits] = {}  # by a cgroup's key, as heard last
        self._units: dict[str, _Unit] = {}  # by a cgroup's key
        self._stray: set[str] = set()
        self._starts = Starts(context.cgroups, context.now_ms)
        places = [place for pattern in self._patterns for place in pattern.places()]
        self._followed = context.cgroups.follow(places, self._hear) if places else None

    def runs(self) -> Sequence[Run]:
        """Every unit that lives, and every ended one until it is `settled`.

        Raises:
            ProviderError: units are wanted, and there is no cgroup hierarchy.
        """
        if self._followed is None:
            return ()
        if not self._is_mounted:
            root = self._context.settings.cgroup.root
            raise ProviderError(f"no cgroups are mounted at {root}; set [cgroup] root")
        self._context.cgroups.scan()
        found = {cgroup.key: cgroup for cgroup in self._followed.found()}
        self._meet(found)
        self._drop_strays(found)
        young_ms = self._context.now_ms() - _YOUNG_MS
        judged = [self._judge(self._units[key], cgroup, young_ms) for key, cgroup in found.items()]
        self._forget(unit.key for unit in self._units.values() if unit.is_lost)
        return [run for run in judged if run]

    def watch_paths(self) -> Sequence[Path]:
        """None: cgroups are heard of otherwise."""
        return ()

    def settled(self, keys: Collection[RunKey]) -> None:
        """Forget these ended units."""
        ended = set(keys)
        units = list(self._units.values())
        self._forget(unit.key for unit in units if unit.has_ended and unit.run_key in ended)

    def problems(self) -> Sequence[Problem]:
        """Units that are not metered by themselves."""
        return [
            Problem(
                source=unit.path,
                message=f"is a part of {unit.holder}, which is a job itself; "
                "narrow the patterns of [systemd] units",
            )
            for unit in self._units.values()
            if unit.holder
        ]

    def _meet(self, found: Mapping[str, FoundCgroup]) -> None:
        """Look at those that are new: a job's cgroup is older than all that lie in it."""
        if self._units.keys() == found.keys():
            return
        paths = {cgroup.path for cgroup in found.values()}
        for key, cgroup in found.items():
            if key not in self._units:
                self._units[key] = _Unit(cgroup, run_key(self.name, cgroup), paths)

    def _drop_strays(self, found: Mapping[str, FoundCgroup]) -> None:
        """Forget who was heard, but found by another name: nobody knows it twice in a row."""
        stray = set(self._limits).difference(found)
        self._forget(stray & self._stray)
        self._stray = stray

    def _judge(self, unit: "_Unit", cgroup: FoundCgroup, young_ms: int) -> Run | None:
        """The run as it is now, the same object where nothing has changed; None = not yet."""
        unit.has_ended = cgroup.ended_at_ms is not None
        if unit.holder or (unit.has_ended and unit.run and unit.run.ended_at_ms is not None):
            return unit.run
        limits = self._read(unit, cgroup)
        if unit.run is None and not unit.has_ended and (cgroup.born_at_ms or 0) > young_ms:
            self._context.wake()
            return None
        if unit.run is None or unit.has_ended or limits != unit.limits:
            unit.run, unit.limits = self._describe(unit, cgroup, limits), limits
        return unit.run

    def _read(self, unit: "_Unit", cgroup: FoundCgroup) -> Limits:
        """Its limits now; those of a unit that is gone as they were."""
        if not unit.has_ended:
            return self._note(unit.key, self._reader.read(cgroup.path))
        self._reader.forget(cgroup.path)
        return self._limits.get(unit.key, UNLIMITED)

    def _hear(self, cgroup: FoundCgroup) -> None:
        """In the thread of the watch: a unit began, or its limits changed."""
        self._note(cgroup.key, self._reader.read_once(cgroup.path))

    def _note(self, key: str, limits: Limits) -> Limits:
        known = self._limits.get(key)
        if known is None or limits != known:
            known = self._limits[key] = limits.after(known)
        return known

    def _forget(self, keys: Iterable[str]) -> None:
        gone = list(keys)
        if self._followed is not None and gone:
            self._followed.settle(gone)
            self._starts.forget(gone)
        for key in gone:
            self._units.pop(key, None)
            self._limits.pop(key, None)

    def _describe(self, unit: "_Unit", cgroup: FoundCgroup, limits: Limits) -> Run:
        matches = (pattern.match(cgroup.names) for pattern in self._patterns)
        stars = next((stars for stars in matches if stars is not None), ())
        name_of = user_name if self._context.is_live else str
        fields = fields_of(cgroup.names, stars, name_of)
        settings = self._settings
        started_at_ms = self._starts.at_ms(cgroup)
        job_id = fill(settings.job_id, fields, fields["unit"])
        return Run(
            key=unit.run_key,
            provider=self.name,
            job_id=job_id,
            job_name=fill(settings.job_name, fields, job_id),
            username=fill(settings.user, fields) or None,
            vc=fill(settings.vc, fields, "default"),
            project=fill(settings.project, fields),
            started_at_ms=started_at_ms,
            ended_at_ms=cgroup.ended_at_ms,
            quotas=limits.quotas(),
            cgroup=cgroup.path,
            final=final_readings(cgroup),
        )


class _Unit:
    """What is remembered of one unit. `holder` is the job that it is a part of, or ""."""

    __slots__ = ("has_ended", "holder", "key", "limits", "path", "run", "run_key")

    def __init__(self, cgroup: FoundCgroup, key: RunKey, paths: Collection[str]) -> None:
        self.key = cgroup.key
        self.path = cgroup.path
        self.run_key = key
        self.holder = _holder(cgroup.path, paths)
        self.has_ended = False
        self.run: Run | None = None
        self.limits: Limits | None = None

    @property
    def is_lost(self) -> bool:
        """Whether nobody will settle it."""
        return self.has_ended and bool(self.holder)


def _holder(path: str, paths: Collection[str]) -> str:
    """The outermost of `paths` that this one lies in; "" = none."""
    parts = path.split("/")
    above = ("/".join(parts[:depth]) for depth in range(2, len(parts)))
    return next((outer for outer in above if outer in paths), "")
