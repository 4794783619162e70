"""Who is not let in, and what both logs say of it: an operator reads one of the two."""

import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.uplink.tls import TlsFiles
from tests.integration.wire.authority import Authority, Client, lasting
from tests.integration.wire.services import Service, append, files_of, sending, until

URI = "spiffe://nodemeter/node/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Whose certificate an agent called node-1 has; what the two logs say."""

    client: Callable[[Authority], Client]
    action: str
    ours: str
    theirs: str


def foreign(authority: Authority) -> Client:
    """Of another authority; it trusts the right one."""
    return replace(Authority().client("node-1"), roots=authority.roots)


CASES = {
    "wrong CA": Case(
        client=foreign,
        action="handshake",
        ours="its certificate is of another authority (wrong CA)",
        theirs="the aggregator refuses our certificate: it is of another authority (wrong CA)",
    ),
    "the aggregator's CA is wrong": Case(
        client=lambda authority: replace(authority.client("node-1"), roots=Authority().roots),
        action="handshake",
        ours="it does not take our certificate (its CA or its name for us is another)",
        theirs="the aggregator's certificate is of an authority that is not ours (wrong CA",
    ),
    "expired": Case(
        client=lambda authority: authority.client("node-1", lasting(left=-timedelta(minutes=1))),
        action="handshake",
        ours="its certificate has expired: it must be enrolled again",
        theirs="the aggregator refuses our certificate: it has expired (it holds from 20",
    ),
    "not yet valid": Case(
        client=lambda authority: authority.client("node-1", lasting(since=-timedelta(hours=1))),
        action="handshake",
        ours="its certificate is not yet valid: a clock is wrong",
        theirs="the aggregator refuses our certificate: it is not yet valid (it holds from 20",
    ),
    "common name only": Case(
        client=lambda authority: authority.other("node-1", []),
        action="hello",
        ours="the certificate names 'node-1' as common name only",
        theirs="the certificate names 'node-1' as common name only",
    ),
    "two SANs": Case(
        client=lambda authority: authority.other("node-1", [f"{URI}node-1", f"{URI}node-2"]),
        action="hello",
        ours="the certificate has 2 URIs",
        theirs="the certificate has 2 URIs",
    ),
    "another node's id": Case(
        client=lambda authority: authority.client("node-2"),
        action="hello",
        ours="it names node-2, the agent says that it is node-1",
        theirs="it names node-2, the agent says that it is node-1",
    ),
}


def reasons(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the agent's log says of connections that did not come about."""
    records = [each for each in caplog.records if getattr(each, "action", "") == "reconnect"]
    return [str(getattr(each, "reason", "")) for each in records]


def until_told(caplog: pytest.LogCaptureFixture, words: str) -> None:
    """Wait for the agent's log."""
    until(
        lambda: next((each for each in reasons(caplog) if words in each), None),
        lambda: "\n".join(reasons(caplog)),
    )


@pytest.fixture(autouse=True)
def _all_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.mark.parametrize("name", CASES)
def test_both_logs_say_why_somebody_is_refused(
    name: str,
    service: Service,
    authority: Authority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In words, with the peer; and nobody is let in.

    What is said of handshakes is said once a minute for each host and reason, so it may have
    been for the case before that the aggregator said it of.
    """
    case = CASES[name]
    tls = files_of(case.client(authority), tmp_path / "tls")
    with sending(tmp_path / "spool", f"127.0.0.1:{service.port}", "node-1", tls) as (uplink, _):
        until_told(caplog, case.theirs)
        line = service.logged(case.action, case.ours)
        assert uplink.counters.connections == 0
    assert "peer=ipv4:127.0.0.1:" in line


def test_both_logs_say_that_there_is_no_certificate(
    service: Service, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An agent that only knows whom to trust."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.roots)
    target = f"127.0.0.1:{service.port}"
    with sending(tmp_path / "spool", target, "node-1", TlsFiles(ca=ca)):
        until_told(caplog, "asks for a certificate and we have none: enrol this node")
        service.logged("handshake", "it shows no certificate: it must be enrolled")


def test_both_logs_say_that_plain_text_is_not_taken(
    service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even from this host."""
    with sending(tmp_path / "spool", f"127.0.0.1:{service.port}", "node-1", None):
        until_told(caplog, "the aggregator speaks TLS there, and we plain text")
        service.logged("handshake", "it speaks plain text, which is not taken here")


def test_plain_text_from_another_address_is_refused_and_logged(service: Service) -> None:
    """With that address."""
    with socket.socket() as plain:
        plain.bind(("127.0.0.9", 0))
        plain.connect(("127.0.0.2", service.port))
        plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
        plain.settimeout(30)
        while plain.recv(4096):
            continue
        peer = f"peer=ipv4:127.0.0.9:{plain.getsockname()[1]}"
    line = service.logged("handshake", peer)
    assert "it speaks plain text, which is not taken here" in line


def test_both_logs_say_that_a_node_was_revoked_in_mid_stream(
    service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was acked before stays acked; what comes after waits in the spool."""
    out = tmp_path / "tls"
    service.ca("issue", "node-9", "--out", str(out))
    node = out / "node.pem"
    tls = TlsFiles(ca=out / "ca.pem", certificate=node, key=node)
    target = f"127.0.0.1:{service.port}"
    with sending(tmp_path / "spool", target, "node-9", tls) as (uplink, spool):
        append(spool)
        uplink.wake()
        until(lambda: "acked" if spool.acked_through == 1 else None)
        service.ca("revoke", "node-9", "--reason", "sold to somebody")
        until_told(caplog, "was revoked: sold to somebody")
        (told,) = [each for each in caplog.records if "sold to" in str(vars(each).get("reason"))]
        assert told.message == "the aggregator refuses us; the backlog waits in the spool"
        service.logged("expel", "was revoked: sold to somebody")
        append(spool)
        uplink.wake()
        service.logged("hello", "was revoked: sold to somebody")
        assert spool.acked_through == 1
