"""Killed exactly between commit and ack, and between batch and commit: nothing twice."""

from pathlib import Path
from random import Random

import pytest

from aggregator.store.embedded import Server
from tests.faults.processes import Rig
from tests.faults.strikes import Kind, Point, Strikes

pytestmark = pytest.mark.timeout(600)


def test_a_kill_between_commit_and_ack_doubles_nothing(
    fault_server: Server, tmp_path: Path
) -> None:
    """The commit stays, its answer or the ack is lost; who was killed comes back and asks."""
    with Rig(fault_server, tmp_path, streamers=1) as rig:
        strikes = Strikes(rig=rig, random=Random(1), loses=True)
        strikes.kill(Kind.AGGREGATOR, Point.COMMITTED)
        strikes.kill(Kind.DATABASE, Point.COMMITTED)
        strikes.kill(Kind.AGGREGATOR, Point.ACK)
        strikes.kill(Kind.STREAMER, Point.ACK)
        rig.finish()
        verdict = rig.verdict()
        assert verdict.is_exact, verdict.faults
        assert strikes.proven.total() == 4


def test_a_kill_between_batch_and_commit_loses_nothing(
    fault_server: Server, tmp_path: Path
) -> None:
    """What was on its way is sent again."""
    with Rig(fault_server, tmp_path, streamers=1) as rig:
        strikes = Strikes(rig=rig, random=Random(2), loses=True)
        strikes.kill(Kind.AGGREGATOR, Point.COMMIT)
        strikes.kill(Kind.DATABASE, Point.COMMIT)
        strikes.kill(Kind.STREAMER, Point.BATCH)
        rig.finish()
        verdict = rig.verdict()
        assert verdict.is_exact, verdict.faults
        assert rig.traffic.totals.sent_again > 0
