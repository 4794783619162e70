"""SIGTERM under load: everybody ends in good order, and nothing is lost."""

from pathlib import Path

import pytest

from aggregator.store.embedded import Server
from tests.faults.processes import Rig

pytestmark = pytest.mark.timeout(600)


def test_a_stop_under_load_is_clean_and_loses_nothing(fault_server: Server, tmp_path: Path) -> None:
    """Agent, streamer and aggregator, each with batches on their way; exit status 0."""
    with Rig(fault_server, tmp_path, agents=1, streamers=2, interval_seconds=0.02) as rig:
        (agent,) = rig.agents
        agent.workload.start()
        first = rig.streamers[0]  # it must be there before it can be stopped
        rig.traffic.wait_past(rig.traffic.marks(), node=first.recipe.node, seconds=60)
        for process in (first, rig.aggregator, agent, rig.aggregator):
            marks = rig.traffic.marks()
            rig.traffic.wait_past(marks, seconds=60)
            assert process.stop() == 0
            assert "Traceback" not in process.child.said(1000)
            process.start()
        rig.traffic.wait_past(rig.traffic.marks(), seconds=60)
        rig.finish()
        verdict = rig.verdict()
        assert verdict.is_exact, verdict.faults
