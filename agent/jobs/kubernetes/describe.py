"""Makes runs of what is known of pods: the same object as long as nothing has changed."""

from dataclasses import replace

from agent.jobs.found import final_readings, run_key
from agent.jobs.kubernetes.tracked import Description, Tracked
from agent.jobs.limits import NOTHING_REQUESTED
from agent.jobs.terms import bill_text
from agent.model import Run

PROVIDER = "kubernetes"


def describe(tracked: Tracked, now: Description, started_at_ms: int) -> Run:
    """The run of a pod as it is now.

    A pod that the kubelet calls Succeeded or Failed holds nothing any more, though its
    cgroup may stay for long; but what it held is told once.
    """
    if tracked.pod is not None and tracked.pod.is_over and tracked.is_told:
        now = now._replace(quotas=NOTHING_REQUESTED, devices=())
    if tracked.run is None or tracked.description != now:
        tracked.description = now
        tracked.run = _run(tracked, now, started_at_ms)
    return tracked.run


def describe_end(tracked: Tracked, run: Run) -> Run:
    """The same run, whose cgroup is gone."""
    if run.ended_at_ms is None:
        run = replace(
            run, ended_at_ms=tracked.found.ended_at_ms, final=final_readings(tracked.found)
        )
        tracked.run = run
    return run


def _run(tracked: Tracked, now: Description, started_at_ms: int) -> Run:
    identity = now.identity
    return Run(
        key=run_key(PROVIDER, tracked.found),
        provider=PROVIDER,
        job_id=identity.job_id,
        job_name=identity.job_name,
        user_id=identity.user_id,
        username=identity.username,
        vc=identity.vc,
        project=identity.project,
        namespace=bill_text(identity.namespace),
        kind=identity.kind,
        started_at_ms=started_at_ms,
        quotas=now.quotas,
        devices=now.devices,
        cgroup=tracked.found.path,
    )
