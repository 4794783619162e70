"""Whatever is said to its ports, the aggregator's memory is bounded, and honest agents are acked.

With `SCALE` set (`make scale`) the attacks are ten times as many; the figures are printed.
"""

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from aggregator.clock import to_ms, utc_now
from tests.acceptance.product import until
from tests.faults.scale import attacks
from tests.faults.scale.aggregators import Aggregator, running_on
from tests.faults.scale.attacks import Connect
from tests.faults.scale.backlogs import count_stored, expected
from tests.faults.scale.crowd import RUNS, node_of
from tests.faults.scale.crowds import Crowds, write_certificates
from tests.faults.scale.frames import WINDOW_MS
from tests.integration.wire.authority import Authority

IS_WHOLE = bool(os.environ.get("SCALE"))
TIMES = 10 if IS_WHOLE else 1
HONEST = 10
MOST_MIB = 256
"""Beside what it had before; a single bomb that went off would be 60."""

pytestmark = pytest.mark.timeout(1_200 if IS_WHOLE else 180)


@pytest.fixture(params=["off", "mutual"])
def tls_mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority()
    made.write(tmp_path / "ca")
    return made


@pytest.fixture
def aggregator(
    database_url: str, authority: Authority, tmp_path: Path, tls_mode: str
) -> Iterator[Aggregator]:
    log, ca = tmp_path / "aggregator.log", tmp_path / "ca"
    with running_on(database_url, log, tls_mode=tls_mode, tls_ca_dir=str(ca)) as made:
        yield made


@pytest.fixture
def honest(
    aggregator: Aggregator, authority: Authority, tmp_path: Path, tls_mode: str
) -> Iterator[Crowds]:
    """Agents that stream, all connected."""
    pems = write_certificates(authority, HONEST, tmp_path / "certificates")
    with Crowds(
        port=aggregator.grpc_port,
        env=aggregator.env,
        start_ms=to_ms(utc_now() - timedelta(hours=6)) // WINDOW_MS * WINDOW_MS,
        count=HONEST,
        certificates=pems if tls_mode == "mutual" else None,
    ) as made:
        made.settle()
        yield made


@pytest.fixture
def reach(aggregator: Aggregator) -> Connect:
    """The gRPC port, without any TLS."""
    return lambda: socket.create_connection(("127.0.0.1", aggregator.grpc_port), timeout=60)


@pytest.fixture
def speak(reach: Connect, authority: Authority, tmp_path: Path, tls_mode: str) -> Connect:
    """The gRPC port as a node speaks to it whose certificate is good; its intentions are not."""
    if tls_mode == "off":
        return reach
    client = authority.client("silent-0")
    pem = tmp_path / "silent.pem"
    pem.write_bytes(client.key + client.certificate)
    context = ssl.create_default_context(cadata=client.roots.decode())
    context.load_cert_chain(pem)
    context.set_alpn_protocols(["h2"])
    return lambda: context.wrap_socket(reach(), server_hostname="localhost")


def test_memory_is_bounded_and_honest_agents_are_acked(
    aggregator: Aggregator, honest: Crowds, database_url: str, reach: Connect, speak: Connect
) -> None:
    """Bombs, lies, nests, noise, silence: while each of them goes on, honest frames arrive."""
    before = aggregator.resident_mib()
    rounds, figures = 0, dict[str, float]()
    for name, content in {
        "60 MiB in 60 KiB": attacks.bomb(),
        "a claim of 1 GB": attacks.lie(),
        "30,000 levels": attacks.nest(),
        "no message": attacks.noise(),
    }.items():
        assert attacks.say_on_streams(speak, [content] * 20 * TIMES) == 20 * TIMES
        figures[name] = aggregator.peak_mib() - before
    assert attacks.babble(reach, 20 * TIMES) == 20 * TIMES
    figures["random bytes"] = aggregator.peak_mib() - before
    with ExitStack() as silence:
        silence.enter_context(attacks.half_open(reach, 100 * TIMES))
        silence.enter_context(attacks.silent_streams(speak, 90 * TIMES))
        for rounds in range(1, 4):
            honest.append(1)
            assert honest.settle().acked == rounds * HONEST
        figures["silence"] = aggregator.peak_mib() - before
    until("those who hung up to be forgotten", is_alone(aggregator), seconds=60)
    with psycopg.connect(database_url) as connection:
        stored = count_stored(connection)
    assert stored == {node_of(n): expected(rounds, RUNS) for n in range(1, HONEST + 1)}
    print(f"\nMiB more than {before:.0f}, at most:", {k: round(v) for k, v in figures.items()})
    assert max(figures.values()) < MOST_MIB
    assert "Traceback" not in aggregator.log.read_text()


def is_alone(aggregator: Aggregator) -> Callable[[], bool]:
    """Whether nobody but the honest ones is connected."""
    return lambda: aggregator.metric("connections") == HONEST
