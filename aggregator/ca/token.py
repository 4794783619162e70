"""One-time tokens: what lets a node ask for its first certificate.

A token is a secret and the fingerprint of the authority, so that whoever has it knows the
aggregator before it is known by it. What is kept is the secret's hash, and for whom, until
when and by which key it was used: that key may come again, should the answer have been lost.
"""

import hashlib
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aggregator.ca.layout import CaError, write_whole

_SECRET_BYTES: Final = 16
_KEPT: Final = timedelta(days=30)


class TokenError(CaError):
    """The token does not let in; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is kept of one. `used_by`: the fingerprint of the key that was certified with it."""

    node: str
    made_at: str
    expires_at: str
    used_at: str = ""
    used_by: str = ""

    def ends_at(self) -> datetime:
        """From when on it is of no use."""
        return datetime.fromisoformat(self.expires_at)


def make_token(folder: Path, node: str, authority: str, now: datetime, life: timedelta) -> str:
    """Make a token for `node`; the text is told once and kept nowhere."""
    _forget_old(folder, now)
    secret = secrets.token_hex(_SECRET_BYTES)
    token = Token(node=node, made_at=now.isoformat(), expires_at=(now + life).isoformat())
    _write(_place(folder, secret), token)
    return f"{secret}.{authority}"


def check_token(
    folder: Path, secret: str, node: str, key: ec.EllipticCurvePublicKey, now: datetime
) -> None:
    """Raise `TokenError` unless `node` may have `key` certified by it."""
    token = _read(_place(folder, secret))
    if token is None:
        raise TokenError("the token is none of this authority's, or was withdrawn")
    if now >= token.ends_at():
        raise TokenError(
            f"the token has expired, at {token.expires_at}: make another with "
            f"`nodemeter-aggregator ca issue {token.node}`"
        )
    if token.node != node:
        raise TokenError(
            f"the token is for another node: it is for {token.node}, the agent says that it is "
            f"{node[:256]}"
        )
    if token.used_by not in {"", _fingerprint(key)}:
        raise TokenError(
            f"the token was used already, at {token.used_at}: make another with "
            f"`nodemeter-aggregator ca issue {token.node}`, and if nobody of yours used it, "
            f"`nodemeter-aggregator ca revoke {token.node}`"
        )


def mark_used(folder: Path, secret: str, key: ec.EllipticCurvePublicKey, now: datetime) -> None:
    """From now on it is of use to that key alone."""
    place = _place(folder, secret)
    token = _read(place)
    assert token is not None, "it was checked just now, under the same lock"
    _write(place, replace(token, used_at=now.isoformat(), used_by=_fingerprint(key)))


def tokens(folder: Path) -> Sequence[Token]:
    """All that are kept."""
    return sorted(
        (token for _, token in _all(folder)), key=lambda token: (token.node, token.made_at)
    )


def withdraw_tokens(folder: Path, node: str) -> int:
    """Make those of `node` useless; gives how many there were that were not used."""
    found = [(path, token) for path, token in _all(folder) if token.node == node]
    for path, _ in found:
        path.unlink(missing_ok=True)
    return sum(1 for _, token in found if not token.used_by)


def _place(folder: Path, secret: str) -> Path:
    return folder / f"{hashlib.sha256(secret.encode()).hexdigest()}.json"


def _all(folder: Path) -> Iterator[tuple[Path, Token]]:
    for path in folder.glob("[!.]*.json"):
        if token := _read(path):
            yield path, token


def _read(path: Path) -> Token | None:
    try:
        return Token(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise CaError(f"the token in {path} cannot be read: {error}") from error


def _write(path: Path, token: Token) -> None:
    write_whole(path, json.dumps(asdict(token)).encode())


def _forget_old(folder: Path, now: datetime) -> None:
    for path, token in [*_all(folder)]:
        if now - token.ends_at() > _KEPT:
            path.unlink(missing_ok=True)


def _fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()
