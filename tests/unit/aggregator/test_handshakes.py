"""What gRPC's core says of handshakes that failed."""

import pytest

from aggregator.handshakes import in_words, refusals, trace

START = "I1121 01:56:29.478971     640 handshaker.cc:155] CallNextHandshakerLocked: error="
ARGS = (
    "args={endpoint=0x7f, args={grpc.internal.endpoint_peer_address=ipv4:10.0.0.7:40526, grpc.x=1}}"
)
SSL = "UNKNOWN: Ssl handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:"
EXPIRED = f"{SSL}SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: certificate has expired"


def read(text: str) -> tuple[list[tuple[str, str]], list[str]]:
    others: list[str] = []
    found = list(refusals(text.splitlines(keepends=True), others.append))
    return found, others


def test_a_failure_is_told_with_its_peer() -> None:
    """An entry goes over several lines."""
    trail = "=== Source Location Trace: === \nsrc/core/util/status_helper.cc:68\n"
    found, others = read(f"{START}{EXPIRED}\n{trail} shutdown=false index=2, {ARGS}\n")
    assert found == [("ipv4:10.0.0.7:40526", EXPIRED)]
    assert others == []


def test_what_goes_well_is_not_told() -> None:
    """Nor the rest of what the core chats about."""
    chat = "I1121 01:56:29.477157     640 handshaker.cc:80] handshake_manager 0x7f: adding\n"
    assert read(f"{START}OK shutdown=false index=1, {ARGS}\n{chat}") == ([], [])


def test_all_else_goes_on() -> None:
    """Errors of the core, and what other software says."""
    said = "E1121 01:56:29.477157     640 server.cc:80] no\n  more of it\nFatal Python error\n"
    assert read(f"{START}OK\n{said}") == ([], said.splitlines(keepends=True))


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (EXPIRED, "its certificate has expired"),
        (f"{SSL}PEER_DID_NOT_RETURN_A_CERTIFICATE: x", "it shows no certificate"),
        (f"{SSL}SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER", "it speaks plain text"),
        ("UNAVAILABLE: Socket closed", "it hung up"),
        (f"{SSL}NO_SHARED_CIPHER", "TLS could not be agreed upon: UNKNOWN: Ssl handshake failed"),
    ],
)
def test_reasons_are_told_in_words(reason: str, words: str) -> None:
    """The core's own where there are no better ones."""
    assert in_words(reason).startswith(words)


def test_what_an_operator_traces_stays_traced() -> None:
    """Ours is added."""
    environ = {"GRPC_TRACE": "http,tcp"}
    trace(environ)
    assert environ["GRPC_TRACE"] == "http,tcp,handshaker"
