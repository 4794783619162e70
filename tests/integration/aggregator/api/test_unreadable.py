"""Claims about what is no HTTP request: answered in the words of the API that was meant."""

import asyncio
import json
import logging
from collections.abc import Mapping

import pytest

from aggregator.api.middleware import SECURITY_HEADERS
from aggregator.api.unreadable import path_of
from aggregator.log import KeyValueFormatter, RequestFilter
from tests.integration.aggregator.api.client import Api

HOST = b" HTTP/1.1\r\nHost: localhost\r\n"
UNREADABLE = {
    b"GET %s?a=\xc3\xa4s3cret" + HOST + b"\r\n": "percent-encoded",
    b"GET %s?a=" + b"s3cret" * 2000 + HOST + b"\r\n": "8190 bytes",
    b"GET %s" + HOST + b"X-A: " + b"s3cret" * 2000 + b"\r\n\r\n": "8190 bytes",
    b"GET %s" + HOST + b"A: s3cret\r\n" * 200 + b"\r\n": "Too many headers received",
    b"POST %s" + HOST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\ns3cret": (
        "Transfer-Encoding can't be present with Content-Length"
    ),
    b"G@T %s" + HOST + b"A: s3cret\r\n\r\n": "a line like GET /api/Bills HTTP/1.1",
    b"GET %s HTTP/9.9\r\nA: s3cret\r\n\r\n": "a line like GET /api/Bills HTTP/1.1",
    b"GET %s" + HOST + b"A s3cret: b\r\n\r\n": "Invalid header token",
    b"GET %s" + HOST + b"A: s3cret\x00\r\n\r\n": "Invalid header value char",
    b"GET %s HTTP/1.1\r\nA: s3cret\r\n\r\n": "Missing 'Host' header in request",
}
"""A request, but for its path, and what is said of it."""
PROBLEM = "application/problem+json"
DIALECTS = {
    b"/api/Bills": PROBLEM,
    b"/nowhere": PROBLEM,
    b"/platform/cost.alauda.io/v1beta1/costs/usage": "application/json",
    b"/v1/billing/pods": "application/json",
    b"/api/v1/billing/usage": "application/json",
    b"/V1/billing/usage/1770379200": "application/json",
    b"http://localhost:8080/v1/teams/a/billing/usage": "application/json",
}


def parts(answer: bytes) -> tuple[bytes, Mapping[str, str], bytes]:
    """The status line, the headers and the body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    return first, dict(line.decode().split(": ", 1) for line in lines), body


def said_of(path: bytes, body: bytes, request_id: str) -> str:
    """What is wrong, from where the path's dialect has it; the rest is as in that dialect."""
    shown = json.loads(body)
    match path.split(b"/"):
        case [b"", b"platform", *_]:
            assert (shown["kind"], shown["reason"], shown["code"]) == ("Status", "BadRequest", 400)
            return str(shown["message"])
        case [b"", b"v1", b"billing", b"pods"]:
            assert [*shown] == ["message"]
            return str(shown["message"])
        case [b"", b"api", b"v1", *_]:
            assert shown["error"] == "Invalid request parameters"
            return str(shown["details"]["_errors"][0])
        case [b"", b"V1", *_] | [b"http:", *_]:
            assert (shown["error"]["status"], shown["error"]["id"]) == (400, request_id)
            return str(shown["error"]["message"])
        case _:
            assert (shown["status"], shown["requestId"]) == (400, request_id)
            return str(shown["detail"])


@pytest.mark.parametrize("path", DIALECTS)
async def test_what_cannot_be_parsed_is_refused_as_the_path_speaks(
    api: Api, path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """With all headers, an id that the log has, the reason, and nothing of what was sent."""
    caplog.set_level(logging.INFO)
    for text, reason in UNREADABLE.items():
        caplog.clear()
        with caplog.filtering(RequestFilter()):
            answer = await api.raw(text.replace(b"%s", path, 1))  # which ends: it is closed
        status, headers, body = parts(answer)
        assert status == b"HTTP/1.0 400 Bad Request"
        assert headers["Content-Type"].partition(";")[0] == DIALECTS[path]
        assert headers.items() >= SECURITY_HEADERS.items()
        assert (headers["Cache-Control"], headers["Server"]) == ("no-store", "nodemeter")
        assert reason in said_of(path, body, headers["X-Request-Id"])
        assert b"s3cret" not in answer
        (record,) = caplog.records
        assert (record.levelno, vars(record)["request_id"]) == (
            logging.INFO,
            headers["X-Request-Id"],
        )
        line = KeyValueFormatter().format(record)
        assert "action=http_request_unreadable" in line
        assert "s3cret" not in line


async def test_what_is_no_http_at_all_is_a_problem(api: Api) -> None:
    """A greeting of TLS, or of HTTP/2, or what somebody typed."""
    for text in (b"\x16\x03\x01\x02\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"hello\r\n\r\n"):
        status, headers, body = parts(await api.raw(text))
        assert (status, headers["Content-Type"]) == (
            b"HTTP/1.0 400 Bad Request",
            PROBLEM,
        )
        assert json.loads(body)["status"] == 400
    counted = (await api.get("/metrics")).text
    name = "nodemeter_aggregator_http_requests_total"
    assert f'{name}{{method="other",path="other",status="400"}} 3.0' in counted


async def test_a_head_that_comes_in_pieces_has_its_path_in_the_first(api: Api) -> None:
    """Also on a connection that has asked for something else before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(b"GET /healthz" + HOST + b"\r\n")
    assert await reader.readuntil(b'{"status":"ok"}')
    writer.write(b"GET /v1/billing/pods" + HOST)
    await writer.drain()
    await api.get("/healthz")  # while the server reads the first piece
    writer.write(b"A b: c\r\n\r\n")
    _, _, body = parts(await reader.read())
    assert [*json.loads(body)] == ["message"]
    writer.close()


@pytest.mark.parametrize(
    ("begin", "path"),
    [
        (b"GET /api/Bills?a=b HTTP/1.1", "/api/Bills"),
        (b"G@T  https://h:1/v1/x#y", "/v1/x"),
        (b"GET /a\xff/b", "/a"),
        (b"GET /" + b"a" * 9000, "/" + "a" * 400),
        (b"GET nowhere", None),
        (b'{"a": "/b"}', None),
        (b"\x16\x03\x01", None),
    ],
)
def test_a_path_is_read_as_far_as_it_goes(begin: bytes, path: str | None) -> None:
    """Without its query, in bounds."""
    assert path_of(begin) == path
