"""An aggregator that is away for long: the backlog waits, and all of it is told.

`FAULTS_BACKLOG` says how many frames of backlog (default 400).
"""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from aggregator.store.embedded import Server
from tests.acceptance.product import until
from tests.faults.clocks import Clocks
from tests.faults.processes import Rig

BACKLOG = int(os.environ.get("FAULTS_BACKLOG", "400"))
DAY = timedelta(days=1)

pytestmark = pytest.mark.timeout(600 + BACKLOG)


def test_an_aggregator_that_is_away_for_minutes_is_told_all(
    fault_server: Server, tmp_path: Path
) -> None:
    """A backlog of many frames, made while nobody took them, by nodes that die meanwhile."""
    with Rig(fault_server, tmp_path, agents=1, streamers=1, interval_seconds=0.001) as rig:
        (agent,), (streamer,) = rig.agents, rig.streamers
        rig.aggregator.kill()
        for _ in range(20):
            agent.workload.whole()
        until("a backlog", lambda: streamer.told > BACKLOG, seconds=300)
        streamer.kill()
        agent.kill()
        streamer.start()
        agent.start()
        for _ in range(20):
            agent.workload.whole()
        rig.aggregator.start()
        rig.finish()
        verdict = rig.verdict()
        assert verdict.is_exact, verdict.faults


def test_an_aggregator_that_is_away_for_days_is_told_all(
    fault_server: Server, tmp_path: Path
) -> None:
    """A job that lives through five days without an aggregator: every minute of them is billed."""
    clocks = Clocks(tmp_path / "clocks")
    clocks.suspend(-5 * DAY)
    with Rig(fault_server, tmp_path) as rig:
        agent = rig.add_agent("node", clocks.env)
        agent.workload.clock = clocks.now
        job = agent.workload.begin()
        until("it to be known", lambda: rig.ledger().layers["bill"], seconds=60)
        rig.aggregator.kill()
        for day in range(1, 6):
            clocks.suspend(DAY)
            job.cpu_usec += 86_400 * day
            assert job.cgroup is not None
            agent.workload.cgroups.count(job.cgroup, job.cpu_usec)
            agent.workload.whole()
            until(
                "the day to be told",
                lambda: len(_job_files(agent.workload.jobs_dir)) == 1,
                seconds=60,
            )
        rig.aggregator.start()
        agent.workload.end(job, agent.workload.clock().replace(microsecond=0))
        rig.finish()
        verdict = rig.verdict()
        assert verdict.is_exact, verdict.faults


def _job_files(folder: Path) -> list[Path]:
    return list(folder.glob("*.json"))
