"""What the authority has signed and what it has taken back: two files, read as a whole."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

from cryptography import x509

from aggregator.ca.certificate import serial
from aggregator.ca.layout import CaError, append_line, write_whole

How: TypeAlias = Literal["token", "renewal", "file", "server"]
"""For whom a certificate was signed: who brought a token, the certificate before, nobody yet,
or the aggregator itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate that was signed. Instants are ISO 8601."""

    serial: str
    node: str
    not_before: str
    not_after: str
    how: str

    def ends_at(self) -> datetime:
        """When it expires."""
        return datetime.fromisoformat(self.not_after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """A certificate that was taken back."""

    serial: str
    node: str
    reason: str
    revoked_at: str


def write_issued(path: Path, certificate: x509.Certificate, node: str, how: How) -> None:
    """Note a certificate before anybody is given it."""
    issued = Issued(
        serial=serial(certificate),
        node=node,
        not_before=certificate.not_valid_before_utc.isoformat(),
        not_after=certificate.not_valid_after_utc.isoformat(),
        how=how,
    )
    append_line(path, json.dumps(asdict(issued)).encode())


def read_issued(path: Path) -> Iterator[Issued]:
    """All that was signed, in order; a line that a crash tore was given to nobody."""
    for line in _lines(path):
        try:
            yield Issued(**json.loads(line))
        except (ValueError, TypeError):
            continue


def read_denied(path: Path) -> Sequence[Denied]:
    """All that was taken back; raises `CaError`."""
    try:
        return [Denied(**json.loads(line)) for line in _lines(path)]
    except (ValueError, TypeError) as error:
        raise CaError(f"{path} has a line that is not the authority's: {error}") from error


def write_denied(path: Path, denied: Sequence[Denied]) -> None:
    """Replace the deny-list, which others may read: it holds no secrets."""
    lines = [json.dumps(asdict(each)) + "\n" for each in denied]
    write_whole(path, "".join(lines).encode(), mode=0o644)


def _lines(path: Path) -> Sequence[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CaError(f"{path} cannot be read: {error.strerror}") from error
