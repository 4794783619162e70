"""A node comes by its certificate, and keeps one, as its operator sees it."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import grpc
import psycopg
import pytest
from cryptography import x509

from agent.config import Reader
from agent.enroll.ask import enroll
from agent.errors import AgentError
from agent.sections.uplink import ask_uplink
from agent.uplink.renewal import Renewal
from agent.wiring import tls_files
from aggregator.ca.layout import Layout
from aggregator.ingest.credentials import Credentials
from proto.enrolment.v1 import enrolment_pb2 as pb
from tests.integration.wire.authority import Authority, lasting
from tests.integration.wire.services import Service, append, files_of, free_port, sending, until


def environ_of(folder: Path, node: str) -> Mapping[str, str]:
    """An agent of that name with a state directory of its own."""
    return {"NODEMETER_AGENT_STATE_DIR": str(folder / "state"), "NODEMETER_NODE_NAME": node}


def agent(environ: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run `nodemeter-agent`."""
    return subprocess.run(
        [sys.executable, "-m", "agent", "--config", os.devnull, *words],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def token_of(service: Service, node: str) -> str:
    """The token within the command that is printed for the operator."""
    told = re.search(
        r"nodemeter-agent enroll --aggregator (\S+) --token (\S+)", service.ca("issue", node)
    )
    assert told is not None
    assert told[1] == f"127.0.0.1:{service.enroll_port}"
    return told[2]


def enrol(
    service: Service, folder: Path, node: str, token: str
) -> subprocess.CompletedProcess[str]:
    """Enrol with what was printed."""
    place = f"127.0.0.1:{service.enroll_port}"
    return agent(environ_of(folder, node), "enroll", "--aggregator", place, "--token", token)


def test_who_enrols_where_agents_send_usage_is_told_where_to(
    service: Service, tmp_path: Path
) -> None:
    """The two ports are one apart, and the other one asks for what enrolling gives."""
    token, place = token_of(service, "gpu-8"), f"127.0.0.1:{service.port}"
    asked = "enroll", "--aggregator", place, "--token", token
    done = agent(environ_of(tmp_path, "gpu-8"), *asked)
    assert done.returncode == 1
    assert f"{place} asks for the certificate that enrolling gives" in done.stderr
    assert "enroll_port" in done.stderr


def test_a_node_enrols_with_what_was_printed_and_is_let_in(
    service: Service, tmp_path: Path
) -> None:
    """Once; the key is the agent's alone, and nothing else has to be configured."""
    token = token_of(service, "gpu-7")
    done = enrol(service, tmp_path, "gpu-7", token)
    assert done.returncode == 0, done.stderr
    assert "this node is enrolled as gpu-7, until 20" in done.stdout
    folder = tmp_path / "state/tls"
    assert stat.S_IMODE((folder / "node.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    target = (folder / "target").read_text().strip()
    assert target == f"127.0.0.1:{service.port}"
    checked = agent(environ_of(tmp_path, "gpu-7"), "check-config")
    assert checked.returncode == 0, checked.stderr

    settings = ask_uplink(Reader({}, {}), tmp_path / "state")
    with sending(tmp_path / "spool", settings.target, "gpu-7", tls_files(settings)) as (
        uplink,
        spool,
    ):
        append(spool)
        uplink.wake()
        until(lambda: "acked" if spool.acked_through == 1 else None)
    again = enrol(service, tmp_path / "other", "gpu-7", token)
    assert again.returncode == 1
    assert "the aggregator refused: the token was used already" in again.stderr
    assert not (tmp_path / "other/state/tls").exists()
    assert "the token was used already" in service.logged("enroll", "used already")


def test_a_token_of_another_node_is_refused_in_both_logs(service: Service, tmp_path: Path) -> None:
    """With both names."""
    done = enrol(service, tmp_path, "gpu-9", token_of(service, "gpu-8"))
    assert "it is for gpu-8, the agent says that it is gpu-9" in done.stderr
    assert "peer=ipv4:127.0.0.1:" in service.logged("enroll", "it is for gpu-8")


@pytest.fixture
def impostor(tmp_path: Path) -> Iterator[int]:
    """Somebody in between, with an authority of his own."""
    Authority().write(tmp_path / "impostor")
    server = grpc.server(ThreadPoolExecutor(1))
    port = free_port()
    credentials = Credentials(Layout(tmp_path / "impostor")).one_sided()
    server.add_secure_port(f"127.0.0.1:{port}", credentials)
    server.start()
    yield port
    server.stop(None).wait()


def test_somebody_in_between_is_found_out_before_anything_is_sent(
    service: Service, impostor: int, tmp_path: Path
) -> None:
    """The token is still good afterwards."""
    token, place = token_of(service, "gpu-5"), f"127.0.0.1:{impostor}"
    words = ("enroll", "--aggregator", place, "--token", token)
    done = agent(environ_of(tmp_path, "gpu-5"), *words)
    assert done.returncode == 1
    assert "(a man in the middle); nothing was sent" in done.stderr
    assert enrol(service, tmp_path, "gpu-5", token).returncode == 0


def test_who_shows_the_authority_but_cannot_speak_for_it_is_found_out(
    service: Service,
) -> None:
    """The certificate of an authority is no secret; TLS itself finds that out."""
    with pytest.raises(AgentError, match="cannot be asked"):
        enroll(f"127.0.0.1:{service.enroll_port}", Authority().roots, pb.EnrollRequest())


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--token", "x"], "two hexadecimal numbers with a dot"),
        (["--token", f"{'0' * 32}.{'0' * 64}"], "--aggregator: must say where the aggregator is"),
        (["--token", f"{'0' * 32}.{'0' * 64}", "--aggregator", "x"], "must be host:port"),
        (
            ["--token", f"{'0' * 32}.{'0' * 64}", "--aggregator", "127.0.0.1:1"],
            "nobody answers at 127.0.0.1 port 1",
        ),
    ],
)
def test_a_wrong_call_says_what_is_wrong(words: list[str], fault: str, tmp_path: Path) -> None:
    """In one line."""
    done = agent(environ_of(tmp_path, "gpu-7"), "enroll", *words)
    assert done.returncode == 1
    assert fault in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_certificate_is_renewed_while_batches_stream(
    service: Service, authority: Authority, tmp_path: Path
) -> None:
    """Nobody restarts, and nothing is lost or stored twice."""
    ending = lasting(since=timedelta(minutes=10), left=timedelta(minutes=1))
    tls = files_of(authority.client("node-5", ending), tmp_path / "tls")
    assert tls.certificate is not None
    target = f"127.0.0.1:{service.port}"
    with sending(tmp_path / "spool", target, "node-5", tls) as (uplink, spool):
        stream = spool.stream_id

        def send(through: int) -> None:
            while spool.last_sequence < through:
                append(spool)
                uplink.wake()

        send(100)
        until(lambda: "connected" if uplink.counters.connections == 1 else None)
        renewal = Renewal(
            target=target,
            ca=tls.ca,
            node=tls.certificate,
            server_name=None,
            on_renewed=uplink.reconnect,
        )
        renewal.start()
        send(200)
        until(lambda: "again" if uplink.counters.connections == 2 else None)
        send(300)
        until(lambda: "acked" if spool.acked_through == 300 else None)
        renewal.close()
        assert uplink.counters.failures == 0
    renewed = x509.load_pem_x509_certificates(tls.certificate.read_bytes())[0]
    assert renewed.not_valid_after_utc > ending.not_after + timedelta(days=6)
    with psycopg.connect(service.environ["NODEMETER_DATABASE_URL"]) as database:
        stored = database.execute(
            "SELECT count(*), max(sequence) FROM batch WHERE stream_id = %s", [stream.hex()]
        ).fetchone()
    assert stored == (300, 300)
