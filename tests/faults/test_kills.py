"""Kills at random, each with batches in flight, and links that misbehave: exact to the unit.

`FAULTS_SECONDS` says how long, or `FAULTS_KILLS` how many kills of the agent, the aggregator
and PostgreSQL; `FAULTS_SEED` which run (`make faults` prints it). Unset, it is a short one.
"""

import os
import time
from pathlib import Path
from random import Random, SystemRandom

import pytest

from aggregator.store.embedded import Server
from tests.faults.processes import Rig
from tests.faults.report import table
from tests.faults.strikes import Kind, Strikes
from tests.faults.truth import compare_api

SECONDS = float(os.environ.get("FAULTS_SECONDS", "0"))
KILLS = int(os.environ.get("FAULTS_KILLS", "0"))
SEED = int(os.environ.get("FAULTS_SEED") or SystemRandom().randrange(1 << 32))
SHORT = (Kind.AGENT, Kind.AGGREGATOR, Kind.DATABASE)
KILLS_PER_DISTURBANCE = 4

pytestmark = pytest.mark.timeout(600 + 2 * SECONDS + 20 * KILLS)


def strike(strikes: Strikes) -> None:
    """Strike for as long, or as often, as was asked for; else each of the product's twice."""
    until = time.monotonic() + SECONDS
    for number in range(1 << 20):
        if SECONDS or KILLS:
            is_over = strikes.product_kills >= KILLS if KILLS else time.monotonic() > until
            kind = None
        else:
            is_over = number >= 2 * len(SHORT)
            kind = SHORT[number % len(SHORT)]
        if is_over:
            return
        strikes.kill_somebody(kind)
        if number % KILLS_PER_DISTURBANCE == KILLS_PER_DISTURBANCE - 1:
            strikes.disturb()


def test_random_kills_lose_and_double_nothing(
    fault_server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Agents, aggregator and PostgreSQL die at any instant, links misbehave: all is exact."""
    with Rig(fault_server, tmp_path, seed=SEED, agents=2, streamers=2) as rig:
        for agent in rig.agents:
            agent.workload.start()
        strikes = Strikes(rig=rig, random=Random(SEED))
        strike(strikes)
        rig.finish()
        verdict, ledger = rig.verdict(), rig.ledger()
        compare_api(rig.aggregator, rig.truth(), verdict)
        said = table(
            seed=SEED, strikes=strikes, totals=rig.traffic.totals, ledger=ledger, verdict=verdict
        )
        with capsys.disabled():
            print(f"\n{said}")
        assert verdict.is_exact, said
        assert (ledger.quarantined, ledger.gaps, ledger.streams) == (0, 0, len(rig.nodes)), said
        assert strikes.proven == strikes.kills, said
