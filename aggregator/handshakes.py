"""Logs the TLS handshakes that failed: who it was, and why.

gRPC's server tells nobody that it refused a connection; only its core does, in its own log on
the standard error stream, when it traces handshakes. So that stream is taken through a pipe:
what is said of handshakes becomes a line of our log, what else the core says below an error is
dropped, and everything other goes on to where it was meant to go.

`trace` must be called before gRPC is imported, since its core looks once.
"""

import faulthandler
import fcntl
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from typing import Final

from aggregator.quiet import Quiet

_LOGGER: Final = logging.getLogger(__name__)
_TRACER: Final = "handshaker"
_CORE: Final = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ \S+:\d+\] ")
_FAILED: Final = re.compile(r"handshaker\.cc:\d+\] CallNextHandshakerLocked: error=(?!OK )(.*)")
_PEER: Final = re.compile(r"endpoint_peer_address=([^,}]+)")
_CONTINUED: Final = re.compile(r"\s|=== |src/")
_PIPE_BYTES: Final = 1 << 20

_HUNG_UP: Final = (
    "it hung up: it does not take our certificate (its CA or its name for us is another), or is "
    "no agent"
)
_WORDS: Final = (
    ("certificate has expired", "its certificate has expired: it must be enrolled again"),
    ("certificate is not yet valid", "its certificate is not yet valid: a clock is wrong"),
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "it shows no certificate: it must be enrolled"),
    ("unsuitable certificate purpose", "its certificate is not one for clients"),
    ("unable to get", "its certificate is of another authority (wrong CA)"),
    ("self signed", "its certificate is of another authority (wrong CA)"),
    ("self-signed", "its certificate is of another authority (wrong CA)"),
    ("signature failure", "its certificate is of another authority (wrong CA)"),
    ("WRONG_VERSION_NUMBER", "it speaks plain text, which is not taken here"),
    ("HTTP_REQUEST", "it speaks plain text, which is not taken here"),
    ("BAD_PACKET_LENGTH", _HUNG_UP),  # an alert in the clear, as OpenSSL's clients send it
    ("ALERT_UNKNOWN_CA", "it does not trust our authority (its CA is another)"),
    ("ALERT_CERTIFICATE_EXPIRED", "it finds that our certificate has expired"),
    ("ALERT_BAD_CERTIFICATE", "it does not take our certificate: is it called by its names?"),
    ("ALERT_CERTIFICATE_UNKNOWN", "it does not take our certificate: is it called by its names?"),
)


def trace(environ: MutableMapping[str, str]) -> None:
    """Let gRPC's core trace handshakes, beside what it is told to trace."""
    wanted = [each for each in environ.get("GRPC_TRACE", "").split(",") if each]
    environ["GRPC_TRACE"] = ",".join([*wanted, _TRACER])


@contextmanager
def logged() -> Generator[None]:
    """Log what fails from here on, for as long as this lasts; once for a process."""
    usual = os.dup(2)
    stream, stderr = os.fdopen(usual, "w", buffering=1, errors="backslashreplace"), sys.stderr
    reading, writing = os.pipe()
    with suppress(OSError):  # where the system grants less it stays as it is
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    reader = threading.Thread(target=_read, args=(reading, usual), name="handshakes", daemon=True)
    sys.stderr.flush()
    os.dup2(writing, 2)
    os.close(writing)
    sys.stderr = stream  # what Python says goes the old way
    faulthandler.enable(stream)
    reader.start()
    try:
        yield
    finally:
        sys.stderr = stderr
        os.dup2(usual, 2)  # the pipe's last writer but for children
        reader.join(timeout=1)
        faulthandler.disable()


def refusals(lines: Iterable[str], other: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    """The peer and the reason of each handshake that failed; all else of note goes to `other`."""
    reason: str | None = None
    is_chat = False  # of the core; an entry may go over several lines
    for line in lines:
        if start := _CORE.match(line):
            failed = _FAILED.search(line)
            is_chat, reason = start[1] == "I", failed[1] if failed else None
        elif not _CONTINUED.match(line):
            is_chat, reason = False, None
        if not is_chat:
            other(line)
        elif reason is not None and (peer := _PEER.search(line)):
            yield peer[1], reason
            reason = None


def in_words(reason: str) -> str:
    """What the core says, as an operator would."""
    for sign, words in _WORDS:
        if sign in reason:
            return words
    if "SSL_ERROR" not in reason:
        return _HUNG_UP
    return f"TLS could not be agreed upon: {reason[:200]}"


def _read(reading: int, usual: int) -> None:
    quiet = Quiet()

    def pass_on(line: str) -> None:
        os.write(usual, line.encode(errors="surrogateescape"))

    try:
        for peer, reason in refusals(_lines(reading), pass_on):
            _tell(quiet, peer, in_words(reason))
    finally:
        os.close(reading)


def _lines(reading: int) -> Iterator[str]:
    """What comes through the pipe, read in large pieces.

    Each handshake is told in kilobytes, and thousands of them at once must wait neither for
    a full pipe nor for this thread to get its turn again and again.
    """
    rest = b""
    while piece := os.read(reading, _PIPE_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield f"{line.decode(errors='surrogateescape')}\n"
    if rest:
        yield rest.decode(errors="surrogateescape")


def _tell(quiet: Quiet, peer: str, reason: str) -> None:
    count = quiet.untold(peer.rpartition(":")[0], reason)
    if count is not None:
        extra = {"action": "handshake", "peer": peer, "reason": reason, "repeated": count}
        _LOGGER.warning("a connection was refused", extra=extra)
