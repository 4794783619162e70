"""Many agents lose one aggregator at the same instant, and come back to the next one.

`make scale` runs the long form: ten thousand, each with a connection and a certificate of its own.
"""

import os
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from aggregator.clock import to_ms, utc_now
from tests.faults.scale.aggregators import Aggregator, running_on
from tests.faults.scale.backlogs import count_stored, expected
from tests.faults.scale.crowd import RUNS, node_of
from tests.faults.scale.crowds import Crowds, Report, write_certificates
from tests.faults.scale.frames import WINDOW_MS
from tests.integration.wire.authority import Authority

IS_WHOLE = bool(os.environ.get("SCALE"))
AGENTS = int(os.environ.get("SCALE_AGENTS", "10000" if IS_WHOLE else "200"))
PROCESSES = 2 if IS_WHOLE else 1
AWAY_SECONDS = 3.0 if IS_WHOLE else 0.0
MOST_SECONDS, MOST_MIB = 120, 2_048

pytestmark = pytest.mark.timeout(3_600 if IS_WHOLE else 300)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority()
    made.write(tmp_path / "ca")
    return made


@pytest.fixture
def aggregator(database_url: str, authority: Authority, tmp_path: Path) -> Iterator[Aggregator]:
    log, ca = tmp_path / "aggregator.log", tmp_path / "ca"
    with running_on(database_url, log, tls_mode="mutual", tls_ca_dir=str(ca)) as made:
        yield made


@pytest.fixture
def crowds(aggregator: Aggregator, authority: Authority, tmp_path: Path) -> Iterator[Crowds]:
    """All of them connected, each with its certificate, and a frame of each acked."""
    start_ms = to_ms(utc_now() - timedelta(hours=6)) // WINDOW_MS * WINDOW_MS
    with Crowds(
        port=aggregator.grpc_port,
        env=aggregator.env,
        start_ms=start_ms,
        count=AGENTS,
        processes=PROCESSES,
        certificates=write_certificates(authority, AGENTS, tmp_path / "certificates"),
    ) as made:
        made.settle()
        made.append(1)
        made.settle()
        yield made


@contextmanager
def most_descriptors(aggregator: Aggregator) -> Generator[list[int]]:
    """The highest number that it held open at a time, in a list of one."""
    most, is_over = [0], threading.Event()

    def watch() -> None:
        while not is_over.wait(0.2):
            most[0] = max(most[0], aggregator.descriptors())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        is_over.set()
        thread.join()


def test_everybody_comes_back_and_nothing_is_lost_or_doubled(
    aggregator: Aggregator, crowds: Crowds, database_url: str
) -> None:
    """Killed with frames of everybody under way; what each has is in the database once."""
    crowds.append(2)
    crowds.until_acked(AGENTS // PROCESSES * 6 // 5)
    aggregator.kill()
    before = crowds.append(1)
    assert before.acked < 4 * AGENTS == before.appended
    time.sleep(AWAY_SECONDS)
    aggregator.start()
    began = time.monotonic()
    with most_descriptors(aggregator) as descriptors:
        after = crowds.settle()
    assert (after.settled, after.acked, after.conflicts) == (AGENTS, 4 * AGENTS, 0)
    with psycopg.connect(database_url) as connection:
        stored = count_stored(connection)
    assert stored == dict.fromkeys(
        (node_of(number) for number in range(1, AGENTS + 1)), expected(4, RUNS)
    )
    if IS_WHOLE:
        show(before, after, began, aggregator, descriptors[0])
        assert after.settled_at[-1] - began < MOST_SECONDS
    assert aggregator.peak_mib() < MOST_MIB


def show(
    before: Report, after: Report, began: float, aggregator: Aggregator, descriptors: int
) -> None:
    """Print the figures."""
    seconds = [round(at - began, 1) for at in after.settled_at]
    middle, last = seconds[len(seconds) // 2], seconds[-1]
    sent = after.batches - before.batches
    print(
        f"\n{AGENTS:,} agents settled in {last} s (half of them in {middle} s); the aggregator: "
        f"{aggregator.peak_mib():.0f} MiB at most, {descriptors:,} descriptors; "
        f"{after.appended:,} batches appended, {after.batches:,} sent, {after.acked:,} acked; "
        f"since the restart {sent:,} sent for {after.acked - before.acked:,} acked; "
        f"{after.failures - before.failures:,} attempts in vain, {after.rejects:,} refusals; "
        f"load {os.getloadavg()[0]:.1f}"
    )
