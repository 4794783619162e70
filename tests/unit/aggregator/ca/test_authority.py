"""The authority: whom it certifies, by what, and whom it does so no more."""

import re
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from agent.enroll.request import make_request
from aggregator.ca.authority import Authority, make_authority
from aggregator.ca.certificate import uris_of
from aggregator.ca.denylist import DenyList
from aggregator.ca.identity import Bearer
from aggregator.ca.layout import CaError, Layout
from aggregator.ca.listing import rows_of

START = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = 7 * DAY
URI = "spiffe://nodemeter/node/"


class Calendar:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "ca")


@pytest.fixture
def authority(layout: Layout, calendar: Calendar) -> Authority:
    make_authority(layout, "nodemeter", ["meter.example.org", "192.0.2.1"], calendar)
    return Authority(layout, calendar)


def invite(authority: Authority, node: str) -> str:
    """A token's secret."""
    secret, _, fingerprint = authority.invite(node, DAY).partition(".")
    assert fingerprint == authority.fingerprint
    return secret


def bearer(pem: bytes) -> Bearer:
    return Bearer.of(x509.load_pem_x509_certificates(pem)[0])


def test_a_token_certifies_one_key_of_one_node(authority: Authority) -> None:
    """With exactly one URI, for as long as was asked."""
    _, request = make_request("gpu-7")
    certified = bearer(authority.enroll(invite(authority, "gpu-7"), "gpu-7", request, WEEK))
    assert certified.uris == [f"{URI}gpu-7"]
    assert certified.not_after == START + WEEK
    assert certified.not_before < START


def test_a_token_is_used_once_but_by_the_same_key_again(authority: Authority) -> None:
    """The answer may have been lost; another key is somebody else's."""
    secret, (_, request) = invite(authority, "gpu-7"), make_request("gpu-7")
    authority.enroll(secret, "gpu-7", request, WEEK)
    authority.enroll(secret, "gpu-7", request, WEEK)
    with pytest.raises(CaError, match="the token was used already, at 2026-11-01"):
        authority.enroll(secret, "gpu-7", make_request("gpu-7")[1], WEEK)


def test_of_many_who_come_with_one_token_one_is_certified(authority: Authority) -> None:
    """At the same time, each with a key of its own."""
    secret = invite(authority, "gpu-7")

    def is_certified(_number: int) -> bool:
        try:
            authority.enroll(secret, "gpu-7", make_request("gpu-7")[1], WEEK)
        except CaError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(is_certified, range(16))) == 1


def test_a_token_expires(authority: Authority, calendar: Calendar) -> None:
    """The way to another one is told."""
    secret = invite(authority, "gpu-7")
    calendar.now += DAY
    with pytest.raises(CaError, match=r"has expired.*nodemeter-aggregator ca issue gpu-7"):
        authority.enroll(secret, "gpu-7", make_request("gpu-7")[1], WEEK)


def test_a_token_is_for_its_node_alone(authority: Authority) -> None:
    """Both names are told."""
    secret = invite(authority, "gpu-7")
    with pytest.raises(CaError, match="it is for gpu-7, the agent says that it is gpu-8"):
        authority.enroll(secret, "gpu-8", make_request("gpu-8")[1], WEEK)


def test_nobody_guesses_a_token(authority: Authority) -> None:
    """A path is no secret either."""
    for secret in ("0" * 32, "", "../ca"):
        with pytest.raises(CaError, match="none of this authority's"):
            authority.enroll(secret, "gpu-7", make_request("gpu-7")[1], WEEK)


def test_secrets_are_kept_as_hashes_and_files_from_others(
    authority: Authority, layout: Layout
) -> None:
    """Whoever reads a backup cannot enrol."""
    secret = invite(authority, "gpu-7")
    kept = [path for path in layout.folder.rglob("*") if path.is_file()]
    assert not any(secret in path.name or secret.encode() in path.read_bytes() for path in kept)
    assert stat.S_IMODE(layout.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(layout.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(layout.server.stat().st_mode) == 0o600


def request_of(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    common_name: str,
    names: Sequence[x509.GeneralName] = (),
) -> bytes:
    attribute = x509.NameAttribute(NameOID.COMMON_NAME, common_name)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([attribute]))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def curve(kind: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(kind)


REQUESTS: Sequence[tuple[Callable[[], bytes], str]] = [
    (lambda: request_of(curve(ec.SECP256R1()), "gpu-8"), "asks for another name: gpu-8"),
    (
        lambda: request_of(
            curve(ec.SECP256R1()), "gpu-7", [x509.UniformResourceIdentifier(f"{URI}gpu-8")]
        ),
        "asks for another name: spiffe://nodemeter/node/gpu-8",
    ),
    (lambda: request_of(curve(ec.SECP192R1()), "gpu-7"), "too weak"),
    (lambda: request_of(rsa.generate_private_key(65537, 1024), "gpu-7"), "too weak or unknown"),
    (lambda: b"-----BEGIN", "no PKCS #10 request"),
    (lambda: bytes(20_000), "no PKCS #10 request"),
]


@pytest.mark.parametrize(("make", "words"), REQUESTS)
def test_only_a_sound_request_for_the_own_name_is_granted(
    make: Callable[[], bytes], words: str, authority: Authority
) -> None:
    """And what is refused costs no token."""
    secret = invite(authority, "gpu-7")
    with pytest.raises(CaError, match=re.escape(words)):
        authority.enroll(secret, "gpu-7", make(), WEEK)
    authority.enroll(secret, "gpu-7", make_request("gpu-7")[1], WEEK)


def test_revoking_a_node_denies_all_that_it_has_and_its_tokens(
    authority: Authority, layout: Layout
) -> None:
    """Once; who is enrolled anew is let in again."""
    denied, secret = DenyList(layout.denied), invite(authority, "gpu-7")
    first = bearer(authority.issue("gpu-7", WEEK))
    second = bearer(authority.renew(first.serial, "gpu-7", make_request("")[1], WEEK))
    other = bearer(authority.issue("gpu-8", WEEK))
    assert len(authority.revoke("gpu-7", "sold")) == 2
    assert authority.revoke("gpu-7", "sold") == []
    denied.refresh()
    assert denied.reason(first.serial) == denied.reason(second.serial) == "sold"
    assert denied.reason(other.serial) is None
    with pytest.raises(CaError, match="withdrawn"):
        authority.enroll(secret, "gpu-7", make_request("gpu-7")[1], WEEK)
    with pytest.raises(CaError, match="was revoked"):
        authority.renew(second.serial, "gpu-7", make_request("")[1], WEEK)
    again = bearer(authority.issue("gpu-7", WEEK))
    denied.refresh()
    assert denied.reason(again.serial) is None


def test_revoking_what_nobody_has_is_an_error(authority: Authority) -> None:
    """A misspelt name must not look as if it had been denied."""
    with pytest.raises(CaError, match="nothing was ever issued to a node 'gpu-77'"):
        authority.revoke("gpu-77", "sold")


def test_an_authority_is_made_once(authority: Authority, layout: Layout) -> None:
    """A second one would cut off every node."""
    before = layout.certificate.read_bytes()
    with pytest.raises(CaError, match=r"already.*nothing was changed"):
        make_authority(layout, "nodemeter", ["x"], Calendar())
    assert layout.certificate.read_bytes() == before


def test_what_a_crash_left_of_making_one_is_no_authority(
    layout: Layout, calendar: Calendar, authority: Authority
) -> None:
    """The certificate is written last."""
    layout.certificate.unlink()
    with pytest.raises(CaError, match="nodemeter-aggregator ca init"):
        Authority(layout, calendar)
    make_authority(layout, "nodemeter", ["x"], calendar)
    Authority(layout, calendar)


@pytest.mark.parametrize("node", ["", "..", "a/b", "ä", "a b", "x" * 254, "a\n"])
def test_a_name_that_no_uri_can_hold_is_not_certified(node: str, authority: Authority) -> None:
    """The rule is told."""
    with pytest.raises(CaError, match="letters, digits"):
        authority.invite(node, DAY)


def test_the_servers_own_certificate_is_kept_valid(
    authority: Authority, layout: Layout, calendar: Calendar
) -> None:
    """For the same names, before two thirds of its life are over, with another key."""
    before = layout.server.read_bytes()
    calendar.now += timedelta(days=59)
    assert not authority.keep_server()
    calendar.now += timedelta(days=2)
    assert authority.keep_server()
    assert layout.server.read_bytes() != before
    assert authority.server_names() == ["meter.example.org", "192.0.2.1"]
    server = x509.load_pem_x509_certificates(layout.server.read_bytes())[0]
    assert server.not_valid_after_utc == calendar.now + timedelta(days=90)
    assert uris_of(server) == []


def test_the_list_shows_the_newest_of_each_node(authority: Authority, calendar: Calendar) -> None:
    """And with all of them what became of the others."""
    first = bearer(authority.issue("gpu-7", DAY))
    authority.revoke(first.serial, "lost")
    calendar.now += 2 * DAY
    authority.issue("gpu-7", WEEK)
    authority.issue("gpu-8", DAY)
    calendar.now += 2 * DAY
    issued, denied = authority.issued(), authority.denied()
    newest = rows_of(issued, denied, calendar.now, with_all=False)
    assert [(row["node"], row["state"]) for row in newest] == [
        ("(aggregator)", "valid"),
        ("gpu-7", "valid"),
        ("gpu-8", "expired"),
    ]
    everything = rows_of(issued, denied, calendar.now, with_all=True)
    assert [row["reason"] for row in everything if row["node"] == "gpu-7"] == ["lost", ""]
