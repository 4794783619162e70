"""Claims about an aggregator that takes no more requests for a while."""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from aggregator.admin.client import PATIENCE_SECONDS, Client
from aggregator.admin.errors import BusyError

PROBLEM = {"detail": "at most 3 requests a minute"}


@contextmanager
def busy(refusals: list[str | None]) -> Generator[str]:
    """Answers 429 with each of these as Retry-After, and then 200; the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(429 if refusals else 200)
            retry = refusals.pop(0) if refusals else None
            if retry is not None:
                self.send_header("Retry-After", retry)
            self.end_headers()
            self.wfile.write(json.dumps(PROBLEM).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_it_is_asked_again_when_it_says() -> None:
    """As long as it asks to wait, or a second where it does not say."""
    waits: list[int] = []
    with busy(["7", None, "soon"]) as url:
        assert Client(url=url, wait=waits.append).get("/").body == PROBLEM
    assert waits == [7, 1, 1]


def test_patience_ends() -> None:
    """With what it says, and the exit status of a failure."""
    waits: list[int] = []
    with busy([str(PATIENCE_SECONDS - 1)] * 3) as url:
        with pytest.raises(BusyError, match="at most 3 requests") as refusal:
            Client(url=url, wait=waits.append).get("/")
        assert refusal.value.exit_status == 1
    assert waits == [PATIENCE_SECONDS - 1]
