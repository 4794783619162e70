"""Makes a run of a container, of its cgroup and of what its engine said of it."""

from collections.abc import Collection

from agent.cgroupwatch import FoundCgroup
from agent.context import Context
from agent.jobs.docker.container import Container
from agent.jobs.docker.places import Place
from agent.jobs.found import Starts, final_readings
from agent.jobs.limits import UNLIMITED, Limits
from agent.jobs.reading import user_name
from agent.jobs.terms import bill_text
from agent.model import Run, RunKey


class Describer:
    """Remembers when each container began."""

    def __init__(self, context: Context) -> None:
        """Describe by the settings of `context`."""
        self._settings = context.settings.docker
        self._starts = Starts(context.cgroups, context.now_ms)
        self._name_of = user_name if context.is_live else str

    def describe(
        self,
        key: RunKey,
        place: Place,
        found: FoundCgroup,
        container: Container | None,
        limits: Limits | None,
    ) -> Run:
        """The run of this container; `container` None = its id and its limits are all there is."""
        told_ms = container.started_at_ms if container else None
        started_at_ms = self._starts.at_ms(found, told_ms)
        settings = self._settings
        job_id = self._first(container, settings.job_id_from) or place.id
        name = self._first(container, settings.job_name_from)
        user = self._first(container, settings.user_from)
        if place.uid is not None:
            user = self._name_of(place.uid)
        return Run(
            key=key,
            provider="docker",
            job_id=job_id,
            job_name=name or bill_text(container.name if container else "", place.id[:12]),
            username=user or None,
            vc=self._first(container, settings.vc_from) or "default",
            project=self._first(container, settings.project_from),
            started_at_ms=started_at_ms,
            ended_at_ms=found.ended_at_ms,
            quotas=container.quotas if container else (limits or UNLIMITED).quotas(),
            devices=container.devices if container else (),
            cgroup=found.path,
            final=final_readings(found),
        )

    def forget(self, keys: Collection[str]) -> None:
        """Let go of what was remembered for these cgroups."""
        self._starts.forget(keys)

    def _first(self, container: Container | None, names: tuple[str, ...]) -> str:
        return bill_text(container.first(names)).strip() if container else ""
