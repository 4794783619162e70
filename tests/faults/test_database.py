"""A database that is slow, stands still, is migrated or restored under load: exact.

`FAULTS_SLOW_SECONDS` says how long a commit takes (default 1, at most 30 as DESIGN has it).
"""

import os
from pathlib import Path

import psutil
import psycopg
import pytest

from aggregator.store import migrate as migrations
from aggregator.store.embedded import Server
from tests.acceptance.product import until
from tests.faults.processes import Rig

SLOW_SECONDS = float(os.environ.get("FAULTS_SLOW_SECONDS", "1"))
MIB = 1 << 20

pytestmark = pytest.mark.timeout(600 + 20 * SLOW_SECONDS)


def test_slow_commits_delay_and_change_nothing(fault_server: Server, tmp_path: Path) -> None:
    """Each commit takes long; what is acked late is acked once."""
    with Rig(fault_server, tmp_path, agents=1, streamers=1) as rig:
        (agent,) = rig.agents
        agent.workload.start()
        slow = f"SELECT pg_sleep({SLOW_SECONDS})"
        rig.database.execute(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN PERFORM ({slow}); RETURN NULL; END $$"
        )
        rig.database.execute(
            "CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON ingest_group"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle()"
        )
        for _ in range(3):
            rig.traffic.wait_past(rig.traffic.marks(), seconds=60 + 4 * SLOW_SECONDS)
        rig.database.execute("DROP TRIGGER dawdle ON ingest_group")
        rig.finish()
        verdict = rig.verdict()
        assert verdict.is_exact, verdict.faults


def test_a_database_that_stands_still_costs_no_memory_and_no_usage(
    fault_server: Server, tmp_path: Path
) -> None:
    """No ack, bounded memory, a hint when to come back; then all of it is stored once."""
    settings = {
        "NODEMETER_INGEST_MAX_QUEUED_BYTES": str(MIB),
        "NODEMETER_INGEST_BUSY_AFTER_SECONDS": "0.2",
    }
    with Rig(
        fault_server,
        tmp_path,
        streamers=3,
        interval_seconds=0.001,
        gpus=400,
        aggregator_settings=settings,
    ) as rig:
        rig.traffic.wait_past(rig.traffic.marks(), seconds=60)
        aggregator = psutil.Process(rig.aggregator.pid)
        with psycopg.connect(rig.database.url) as connection:
            connection.execute("LOCK TABLE stream IN ACCESS EXCLUSIVE MODE")
            before = aggregator.memory_info().rss
            ((durable,),) = connection.execute("SELECT sum(acked_through) FROM stream")
            until(
                "somebody to be told to come back",
                lambda: rig.traffic.totals.rejects["REASON_BUSY"] > 0,
                seconds=120,
            )
            assert rig.traffic.totals.acked <= int(str(durable))
            assert aggregator.memory_info().rss - before < 64 * MIB
        rig.finish()
        verdict = rig.verdict()
        assert verdict.is_exact, verdict.faults


def test_a_migration_while_agents_stream_loses_nothing(
    fault_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables change under ingest and rater; whoever was in the way tries again."""
    known = migrations.known_migrations()
    text = b"""
        ALTER TABLE stream ADD COLUMN test_a text;
        ALTER TABLE usage ADD COLUMN test_b bigint;
        ALTER TABLE charge ADD COLUMN test_c bigint NOT NULL DEFAULT 0;
        CREATE INDEX test_idx ON bill (node);
        UPDATE batch SET digest = digest;
    """
    added = migrations.Migration(version=len(known) + 1, name="test", text=text)
    with Rig(fault_server, tmp_path, streamers=2) as rig:
        rig.traffic.wait_past(rig.traffic.marks(), seconds=60)
        monkeypatch.setattr(migrations, "known_migrations", lambda: [*known, added])
        assert migrations.migrate(rig.database.url) == ["test"]
        rig.traffic.wait_past(rig.traffic.marks(), seconds=60)
        rig.finish()
        verdict = rig.verdict()
        assert verdict.is_exact, verdict.faults


def test_a_restored_database_is_told_again(fault_server: Server, tmp_path: Path) -> None:
    """It forgets what came after its copy was made: the agents have kept that, and replay."""
    with Rig(fault_server, tmp_path, agents=1, streamers=1) as rig:
        (agent,) = rig.agents
        agent.workload.start()
        rig.traffic.wait_past(rig.traffic.marks(), node=agent.name, seconds=60)
        rig.aggregator.stop()
        rig.database.copy_to("copy")
        rig.aggregator.start()
        before = rig.traffic.totals.acked
        until("more to be acked", lambda: rig.traffic.totals.acked > before + 60, seconds=120)
        rig.aggregator.stop()
        rig.database.restore_from("copy")
        rig.aggregator.start()
        rig.finish()
        verdict = rig.verdict()
        assert verdict.is_exact, verdict.faults
        assert rig.traffic.totals.sent_again > 30
