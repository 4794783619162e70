"""A driver that dies under a run, as the records tell it: allocated all along, used by nobody."""

from pathlib import Path

from agent.integrate import UsageRecord
from agent.model import DEVICE_UNITS
from tests.unit.agent.daemon.bench import Bench
from tests.unit.agent.fakes import FakeProvider
from tests.unit.agent.nodes import GPU, total
from tests.unit.agent.samplers.nvidia.conftest import INTERVAL_MS, Machine, holding

ONE = "GPU-00000000"
MINUTE_MS = 60_000
HALF = DEVICE_UNITS // 2


def play(machine: Machine, tmp_path: Path, code: int) -> list[UsageRecord]:
    """Three minutes at half of a GPU, six with a dead driver, three again; all that is told."""
    bench = Bench(tmp_path, time=machine.time, others=(FakeProvider(), machine.sampler))
    assert bench.others is not None
    provider = bench.others[0]
    assert isinstance(provider, FakeProvider)
    provider.has(holding("train", ONE, since_ms=machine.now_ms()))
    machine.stub.gpus[0].use = 50
    for at in range(72):
        if at == 18:
            machine.stub.fail("*", code)
        if at == 54:
            machine.stub.heal()
        bench.look()
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    records = bench.records(GPU)
    bench.daemon.close()
    return records


def test_a_driver_that_dies_mid_run_leaves_the_time_unobserved(
    machine: Machine, tmp_path: Path
) -> None:
    """Each observed millisecond at what was used; the others are declared, and not as idle."""
    records = play(machine, tmp_path, 9)
    assert total(records, "length_ms") == 12 * MINUTE_MS
    assert total(records, "allocated") == total(records, "effective")
    assert total(records, "allocated") == DEVICE_UNITS * 12 * MINUTE_MS
    assert [record.used for record in records] == [HALF * record.observed_ms for record in records]
    unobserved_ms = total(records, "length_ms") - total(records, "observed_ms")
    held_ms = MINUTE_MS + 2 * INTERVAL_MS  # by the first mean after it, and the last answer before
    assert 6 * MINUTE_MS - held_ms <= unobserved_ms <= 7 * MINUTE_MS
    first_ms = records[0].start_ms
    dead = [r for r in records if 5 * MINUTE_MS <= r.start_ms - first_ms < 8 * MINUTE_MS]
    assert [(record.length_ms, record.used, record.observed_ms) for record in dead] == [
        (MINUTE_MS, 0, 0)
    ] * 3
