"""The kubelet's list of pods over real HTTPS: who is trusted with the token, and what may fail."""

import socket
import ssl
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from agent.errors import ProviderError
from agent.jobs.kubernetes.kubelet import AccessDeniedError, Kubelet, KubeletAddress
from tests.integration.agent.kubernetes.certificates import NODE, Authority
from tests.integration.agent.kubernetes.kubelets import TOKEN, Answer, Handler, serve_pods


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.fixture
def address(url: str, token_file: Path, authority: Authority) -> KubeletAddress:
    return KubeletAddress(
        url=url,
        name=NODE,
        token_file=str(token_file),
        ca_files=["/nowhere/ca.pem", str(authority.certificate)],
    )


def test_it_shows_its_token_and_gets_the_list(address: KubeletAddress, answer: Answer) -> None:
    """The token is read anew each time: they last an hour."""
    kubelet = Kubelet(address)
    assert kubelet.get_pods() == answer.body
    answer.token = "renewed"
    Path(address.token_file).write_text("renewed")
    assert kubelet.get_pods() == answer.body
    assert answer.requests == [("/pods", f"Bearer {TOKEN}"), ("/pods", "Bearer renewed")]


# Who is not let in ---------------------------------------------------------------------------


def test_a_wrong_token_is_told_with_what_is_needed(address: KubeletAddress, answer: Answer) -> None:
    """401: whose token, and which right it needs."""
    answer.token = "another"
    with pytest.raises(AccessDeniedError, match=r"401 Unauthorized; give it a token.*nodes/pods"):
        Kubelet(address).get_pods()


def test_a_missing_right_is_named(address: KubeletAddress, answer: Answer) -> None:
    """403: the resource, and what it was called before."""
    answer.status = 403
    with pytest.raises(AccessDeniedError, match=r"403 Forbidden; let .*nodes/pods.*nodes/proxy"):
        Kubelet(address).get_pods()


def test_a_node_without_a_token_asks_nothing(address: KubeletAddress, answer: Answer) -> None:
    """And is told where to put one."""
    Path(address.token_file).unlink()
    with pytest.raises(AccessDeniedError, match=f"no token {address.token_file}; write one"):
        Kubelet(address).get_pods()
    assert answer.requests == []


@pytest.mark.parametrize("content", ["", "\n", "two words", "a\r\nX-Evil: 1", "\x00", "t\xf6ken"])
def test_what_is_no_token_is_neither_sent_nor_shown(
    address: KubeletAddress, answer: Answer, content: str
) -> None:
    """It would be in the log, or a header of its own."""
    Path(address.token_file).write_bytes(content.encode("latin-1"))
    with pytest.raises(AccessDeniedError) as caught:
        Kubelet(address).get_pods()
    assert str(caught.value) == f"{address.token_file} holds no token, but something else"
    assert answer.requests == []


def test_a_token_that_is_not_for_us_is_told(address: KubeletAddress, tmp_path: Path) -> None:
    """A folder in its place stands for all that cannot be read, also by root."""
    with pytest.raises(AccessDeniedError, match="cannot be read"):
        Kubelet(replace(address, token_file=str(tmp_path))).get_pods()


def test_the_token_is_in_no_message(address: KubeletAddress, answer: Answer) -> None:
    """Whatever fails."""
    for status in (401, 403, 500):
        answer.token, answer.status = None, status
        with pytest.raises(ProviderError) as caught:
            Kubelet(address).get_pods()
        assert TOKEN not in str(caught.value)


# Who is not trusted --------------------------------------------------------------------------


def test_a_certificate_of_nobody_we_know_gets_no_token(
    address: KubeletAddress, answer: Answer, tmp_path: Path
) -> None:
    """On the node anybody may listen on the port while the kubelet does not."""
    other = Authority(tmp_path / "other", "kubernetes")
    with pytest.raises(AccessDeniedError, match=r"not to be trusted.*ca_files"):
        Kubelet(replace(address, ca_files=[str(other.certificate)])).get_pods()
    assert answer.requests == []


def test_a_certificate_for_another_host_gets_no_token(
    address: KubeletAddress, answer: Answer
) -> None:
    """Signed by the cluster, as those of all its nodes."""
    with pytest.raises(AccessDeniedError, match=r"not to be trusted.*kubelet_name"):
        Kubelet(replace(address, name="node-2.example.org")).get_pods()
    assert answer.requests == []


def test_a_clients_certificate_is_no_kubelets(
    address: KubeletAddress, answer: Answer, authority: Authority
) -> None:
    """The cluster signs those for everybody."""
    wrong = authority.sign(NODE, usage="clientAuth")
    is_refused = pytest.raises(AccessDeniedError, match="not to be trusted")
    with serve_pods(answer, wrong) as url, is_refused:
        Kubelet(replace(address, url=url)).get_pods()
    assert answer.requests == []


def test_without_anybody_to_trust_nobody_is_asked(address: KubeletAddress, answer: Answer) -> None:
    """There is no way to pass over the check."""
    with pytest.raises(AccessDeniedError, match=r"none of /nowhere exists; .*ca_files"):
        Kubelet(replace(address, ca_files=["/nowhere"])).get_pods()
    assert answer.requests == []


def test_a_certificate_can_be_shown_in_the_place_of_a_token(
    address: KubeletAddress, answer: Answer, authority: Authority, certificate: tuple[Path, Path]
) -> None:
    """Where the kubelet wants one; with a token, too, if there is one."""
    mine, key = authority.sign("nodemeter", usage="clientAuth")
    answer.token = None
    with serve_pods(answer, certificate, clients=authority.certificate) as url:
        with pytest.raises(ProviderError):
            Kubelet(replace(address, url=url)).get_pods()
        shown = replace(address, url=url, cert_file=str(mine), key_file=str(key))
        assert Kubelet(shown).get_pods() == answer.body
        Path(address.token_file).unlink()
        assert Kubelet(shown).get_pods() == answer.body
    assert [token for _, token in answer.requests] == [f"Bearer {TOKEN}", None]


# What fails ----------------------------------------------------------------------------------


def test_nobody_listening_is_told(address: KubeletAddress) -> None:
    """Not the same as a kubelet that is slow."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(AccessDeniedError, match=f"nobody listens at {url}"):
            Kubelet(replace(address, url=url)).get_pods()


@pytest.mark.parametrize("status", [302, 404, 500, 503])
def test_any_other_status_is_a_failure(
    address: KubeletAddress, answer: Answer, status: int
) -> None:
    """A redirection is not followed: the token is for this host alone."""
    answer.status = status
    with pytest.raises(ProviderError, match=f"/pods answers {status}") as caught:
        Kubelet(address).get_pods()
    assert not isinstance(caught.value, AccessDeniedError)
    assert len(answer.requests) == 1


def test_an_answer_beyond_all_measure_is_not_read(address: KubeletAddress, answer: Answer) -> None:
    """With or without its length told."""
    answer.body = b"x" * (3 << 20)
    kubelet = Kubelet(address, max_bytes=2 << 20)
    with pytest.raises(ProviderError, match="more than 2 MiB"):
        kubelet.get_pods()
    answer.respond = _endless
    with pytest.raises(ProviderError, match="more than 2 MiB"):
        kubelet.get_pods()


def _endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    while True:
        handler.wfile.write(chunk)


def _short(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"kind":"PodList","items":[]}')
    handler.close_connection = True


def _short_chunk(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"100\r\n{")
    handler.close_connection = True


def _no_http(handler: Handler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    handler.close_connection = True


def _nothing(handler: Handler) -> None:
    handler.close_connection = True


def _long_header(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n")


@pytest.mark.parametrize("respond", [_short, _short_chunk, _no_http, _nothing, _long_header])
def test_half_an_answer_is_a_failure(
    address: KubeletAddress, answer: Answer, respond: Callable[[Handler], None]
) -> None:
    """Or something that is no HTTP."""
    answer.respond = respond
    with pytest.raises(ProviderError, match="/pods") as caught:
        Kubelet(address).get_pods()
    assert not isinstance(caught.value, AccessDeniedError)


def _drip_body(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    _drip(handler.wfile.write)


def _drip_header(handler: Handler) -> None:
    _drip(handler.wfile.write)


def _drip(write: Callable[[bytes], object]) -> None:
    """A byte now and then, as long as anybody reads."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        write(b"H")
        time.sleep(0.01)


@pytest.mark.parametrize("respond", [_drip_body, _drip_header])
def test_one_deadline_holds_for_everything(
    address: KubeletAddress, answer: Answer, respond: Callable[[Handler], None]
) -> None:
    """However slowly the bytes drip in: each of them comes in time."""
    answer.respond = respond
    began = time.monotonic()
    with pytest.raises(ProviderError, match="/pods"):
        Kubelet(address, timeout_seconds=1).get_pods()
    assert time.monotonic() - began < 10


@contextmanager
def _listening() -> Generator[str]:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        yield f"https://127.0.0.1:{silent.getsockname()[1]}"


def test_somebody_who_never_says_a_word_is_not_waited_for(address: KubeletAddress) -> None:
    """Not even for the first one."""
    with _listening() as url, pytest.raises(ProviderError, match="fails"):
        Kubelet(replace(address, url=url), timeout_seconds=0.3).get_pods()


def test_no_connection_is_left_behind(address: KubeletAddress, answer: Answer) -> None:
    """By no outcome."""
    kubelet = Kubelet(address)
    kubelet.get_pods()
    answer.status = 500
    for _ in range(5):
        with pytest.raises(ProviderError):
            kubelet.get_pods()
    answer.status = 200
    kubelet.get_pods()
    port = urlsplit(address.url).port
    connections = psutil.Process().net_connections("tcp")
    assert [it for it in connections if it.raddr[1:] == (port,)] == []


def test_a_name_that_nobody_has_is_a_failure(address: KubeletAddress) -> None:
    """As a resolver that does not answer."""
    url = "https://no-such-host.invalid:10250"
    with pytest.raises(ProviderError, match="fails"):
        Kubelet(replace(address, url=url), timeout_seconds=2).get_pods()


def test_a_name_that_none_can_have_is_a_failure(address: KubeletAddress) -> None:
    """A label of a hundred letters."""
    with pytest.raises(ProviderError, match="fails"):
        Kubelet(replace(address, name="n" * 100)).get_pods()


def test_every_address_of_the_host_is_tried(address: KubeletAddress, answer: Answer) -> None:
    """A kubelet may listen on IPv4 alone, and localhost be IPv6 first."""
    url = address.url.replace("127.0.0.1", "localhost")
    assert Kubelet(replace(address, url=url)).get_pods() == answer.body


def test_what_is_trusted_must_be_a_certificate(address: KubeletAddress, tmp_path: Path) -> None:
    """And not any file."""
    (tmp_path / "ca.pem").write_text("none")
    with pytest.raises(ProviderError, match="fails") as caught:
        Kubelet(replace(address, ca_files=[str(tmp_path / "ca.pem")])).get_pods()
    assert isinstance(caught.value.__cause__, ssl.SSLError)
