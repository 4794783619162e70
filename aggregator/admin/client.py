"""Asks an aggregator over HTTP and turns every failure into a sentence.

Numbers of an answer keep the text in which they were sent (`Number`), so that nothing is
rounded between the server and the user.
"""

import json
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.client import BadStatusLine, HTTPException
from ipaddress import ip_address
from pathlib import Path
from typing import IO, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import (
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
)

from aggregator.admin.address import DEFAULT_URL
from aggregator.admin.errors import AdminError, BusyError, UnreachableError, UsageError

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | bool | Number | None"
Record: TypeAlias = dict[str, Json]

TIMEOUT_SECONDS = 60.0
"""For an answer to begin."""

PATIENCE_SECONDS = 300
"""For how long an aggregator is asked again that takes no more requests of us for a while."""

_WRONG_CALL = {HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}


class Number(str):
    """A JSON number with a fraction or an exponent, as it was written."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A successful answer."""

    body: Json
    headers: Message


class _NoRedirects(HTTPRedirectHandler):
    """A redirect would carry the token somewhere else."""

    def redirect_request(  # noqa: PLR0917 - the library's signature
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> None:
        """Follow none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """An aggregator at a base URL, asked as whoever the token says.

    `ca_file` says whose certificates are trusted; None: those of the system. `wait` lets the
    seconds pass that the aggregator asks for.
    """

    url: str
    token: str | None = None
    ca_file: Path | None = None
    wait: Callable[[int], None] = time.sleep

    def __post_init__(self) -> None:
        """Refuse what is no base URL."""
        if not _is_base_url(self.url):
            raise UsageError(f"{self.url!r} is no URL like http://127.0.0.1:8080")
        if self.ca_file is not None and not self.ca_file.is_file():
            raise UsageError(f"--ca-file: there is no file {self.ca_file}")

    def get(self, path: str, **parameters: str | None) -> Answer:
        """What is there."""
        return self._ask("GET", path, parameters)

    def get_list(self, path: str, **parameters: str | None) -> list[Record]:
        """What is there, where the answer is a list of objects."""
        return records(self.get(path, **parameters).body)

    def post(self, path: str, body: object, *, timeout: float = TIMEOUT_SECONDS) -> Answer:
        """Send a JSON body."""
        return self._ask("POST", path, {}, json.dumps(body).encode(), timeout=timeout)

    def delete(self, path: str, **parameters: str | None) -> Answer:
        """Remove what the parameters name."""
        return self._ask("DELETE", path, parameters)

    def _ask(
        self,
        method: str,
        path: str,
        parameters: dict[str, str | None],
        data: bytes | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
    ) -> Answer:
        """Ask, again and again where too much was asked; what was refused so had no effect."""
        patience = PATIENCE_SECONDS
        while True:
            try:
                return self._ask_once(method, path, parameters, data, timeout)
            except BusyError as error:
                patience -= error.seconds
                if patience < 0:
                    raise
                self.wait(error.seconds)

    def _ask_once(
        self,
        method: str,
        path: str,
        parameters: dict[str, str | None],
        data: bytes | None,
        timeout: float,
    ) -> Answer:
        given = {name: value for name, value in parameters.items() if value is not None}
        query = f"?{urlencode(given)}" if given else ""
        request = Request(  # noqa: S310 - the scheme is checked above
            self.url.rstrip("/") + path + query, data=data, method=method, headers=self._headers()
        )
        try:
            with _opener(self.url, self.ca_file).open(request, timeout=timeout) as response:
                return Answer(body=_decoded(response.read(), self.url), headers=response.headers)
        except HTTPError as error:
            with error:
                raise self._refusal(error) from error
        except URLError as error:
            raise UnreachableError(self.url, _reason(error.reason)) from error
        except OSError as error:
            raise UnreachableError(self.url, _reason(error)) from error
        except BadStatusLine as error:
            raise AdminError(
                f"what answers at {self.url} does not speak HTTP. Is it the port for agents, which "
                f"speaks gRPC?\nName the one for HTTP with --url, such as {DEFAULT_URL}"
            ) from error
        except HTTPException as error:
            raise AdminError(f"the answer from {self.url} broke off: try again") from error

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return headers

    def _refusal(self, error: HTTPError) -> AdminError:
        detail = _detail(error) or f"{self.url} answered {error.code} {error.reason}"
        if error.code == HTTPStatus.UNAUTHORIZED:
            return AdminError(f"{detail}.\nGive a token with --token or NODEMETER_TOKEN.")
        if error.code == HTTPStatus.TOO_MANY_REQUESTS:
            return BusyError(detail, _seconds(error.headers.get("Retry-After")))
        kind = UsageError if error.code in _WRONG_CALL else AdminError
        return kind(detail)


def records(body: Json) -> list[Record]:
    """An answer that is a list of objects."""
    if not isinstance(body, list):
        raise AdminError("the answer is no list: is this a nodemeter aggregator?")
    return [each for each in body if isinstance(each, dict)]


def record(body: Json) -> Record:
    """An answer that is an object."""
    if not isinstance(body, dict):
        raise AdminError("the answer is no object: is this a nodemeter aggregator?")
    return body


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _opener(url: str, ca_file: Path | None) -> OpenerDirector:
    """A proxy of the environment is never asked for this machine."""
    own = [ProxyHandler({})] if _is_this_machine(urlsplit(url).hostname or "") else []
    return build_opener(_NoRedirects, HTTPSHandler(context=_trust(ca_file)), *own)


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise UsageError(f"--ca-file: {ca_file} holds no certificates") from error


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _decoded(body: bytes, url: str) -> Json:
    try:
        decoded: Json = json.loads(body, parse_float=Number) if body else None
    except (ValueError, RecursionError) as error:
        raise AdminError(f"what answers at {url} is no nodemeter aggregator") from error
    return decoded


def _detail(error: HTTPError) -> str | None:
    """The words of a problem (RFC 9457), if it is one."""
    try:
        problem: Json = json.loads(error.read())
    except (ValueError, RecursionError, OSError):
        return None
    detail = problem.get("detail") if isinstance(problem, dict) else None
    return detail if isinstance(detail, str) else None


def _seconds(text: str | None) -> int:
    """How long to wait, as `Retry-After` says it; a second if it does not."""
    return max(1, int(text)) if text and text.isascii() and text.isdigit() else 1


def _reason(error: str | BaseException) -> str:
    match error:
        case socket.gaierror():
            return "no such host"
        case TimeoutError():
            return "no answer in time"
        case ssl.SSLCertVerificationError():
            return f"TLS: {error.verify_message}; --ca-file names whose certificates are trusted"
        case ssl.SSLError():
            return f"TLS: {error.reason}"
        case OSError():
            return (error.strerror or str(error) or type(error).__name__).lower()
        case _:
            return str(error)
