"""Tokens: who may ask, made once, shown once, found again by their digest alone.

A token is 256 random bits behind a prefix by which scanners for secrets know it. Its
SHA-256 is all that is kept. Every change is audited in the transaction that makes it.
"""

import hashlib
import logging
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias, TypeVar
from uuid import UUID, uuid4

from aggregator.billing.audit import Author, Entry, record
from aggregator.billing.database import Connection, Database, Parameters, rows_of
from aggregator.billing.scope import EVERYTHING, Scope
from aggregator.rating.ratio import why_unstorable
from aggregator.store.queries import Query, query

_USE_TOKEN = query("use_token")
_INSERT_TOKEN = query("insert_token")
_REVOKE_TOKEN = query("revoke_token")
_LIST_TOKENS = query("list_tokens")

PREFIX = "nodemeter_"
LIFETIME = timedelta(days=90)
"""Unless somebody says otherwise."""
MAX_LIFETIME = timedelta(days=3660)

RoleName: TypeAlias = Literal["admin", "viewer"]

_SECRET_BYTES: Final = 32
_FORM = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
_log = logging.getLogger(__name__)

_Row = TypeVar("_Row")


class NameTakenError(Exception):
    """A token that is not revoked has the name."""


class TokenRuleError(ValueError):
    """What was asked for cannot be a token; `field` is what is wrong with it."""

    def __init__(self, field: str, reason: str) -> None:
        """Keep what is said to whoever asked."""
        super().__init__(reason)
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """What a token is to be. `expires_at` None: after LIFETIME."""

    name: str
    role: RoleName
    scope: Scope = EVERYTHING
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Owned:
    token_id: UUID
    name: str
    role: RoleName
    user_id: UUID | None
    vc: str | None
    project: str | None

    @property
    def scope(self) -> Scope:
        """What its bearer may see."""
        return Scope(user_id=self.user_id, vc=self.vc, project=self.project)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer(_Owned):
    """Whoever holds a valid token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token(_Owned):
    """A token as it can be shown, with its whole story."""

    created_at: datetime
    created_by: str
    reason: str | None
    expires_at: datetime
    revoked_at: datetime | None
    revoked_by: str | None
    last_used_at: datetime | None
    is_expired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A token that was just made, with the secret that nobody will ever see again."""

    token: Token
    secret: str = field(repr=False)


def wanted_token(
    name: str, role: RoleName, scope: Scope, expires_at: datetime | None, now: datetime
) -> NewToken:
    """A token that may be made; pure.

    Raises:
        TokenRuleError: it may not.
    """
    for said_in, text in {"name": name, "vcName": scope.vc, "project": scope.project}.items():
        if text is not None and (reason := why_unstorable(text)):
            raise TokenRuleError(said_in, reason)
    parts = {"userId": scope.user_id, "vcName": scope.vc, "project": scope.project}
    said = [part for part, value in parts.items() if value is not None]
    if said and role == "admin":
        raise TokenRuleError(said[0], "goes with the role viewer only: an admin sees everything")
    if len(said) > 1:
        raise TokenRuleError(said[1], f"cannot stand beside {said[0]}: a scope is one of them")
    if expires_at is not None and not now < expires_at <= now + MAX_LIFETIME:
        raise TokenRuleError(
            "expiresAt", f"must be in the future, at most {MAX_LIFETIME.days} days from now"
        )
    return NewToken(name=name, role=role, scope=scope, expires_at=expires_at)


def digest_of(secret: str) -> bytes | None:
    """What is kept of a token; None for what cannot be one."""
    if _FORM.fullmatch(secret) is None:
        return None
    return hashlib.sha256(secret.encode()).digest()


async def use_token(database: Database, digest: bytes) -> Bearer | None:
    """Whose token it is, if it is valid now."""
    async with database.changing() as connection:
        return await _one(connection, _USE_TOKEN, {"digest": digest}, Bearer)


async def create_token(database: Database, wanted: NewToken, author: Author) -> Issued:
    """Make a token.

    Raises:
        NameTakenError: revoke the other one first, or choose another name.
    """
    secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    values = {
        "token_id": uuid4(),
        "name": wanted.name,
        "digest": digest_of(secret),
        "role": wanted.role,
        "user_id": wanted.scope.user_id,
        "vc": wanted.scope.vc,
        "project": wanted.scope.project,
        "expires_at": wanted.expires_at,
        "lifetime": LIFETIME,
        "actor": author.actor,
        "reason": author.reason,
    }
    async with database.changing() as connection:
        token = await _one(connection, _INSERT_TOKEN, values, Token)
        if token is None:
            raise NameTakenError(wanted.name)
        await record(connection, [_created(token)], author)
    _log_change("token_created", token, author)
    return Issued(token=token, secret=secret)


async def revoke_token(database: Database, name: str, author: Author) -> Token | None:
    """End a token; None if none that could be used has the name."""
    values = {"name": name, "actor": author.actor}
    async with database.changing() as connection:
        token = await _one(connection, _REVOKE_TOKEN, values, Token)
        if token is not None:
            await record(connection, [_revoked(token)], author)
    if token is not None:
        _log_change("token_revoked", token, author)
    return token


async def list_tokens(database: Database) -> Sequence[Token]:
    """Every token there ever was: those that can be used first, by name."""
    async with database.reading() as connection:
        return await rows_of(connection, _LIST_TOKENS, {}, Token)


def described(token: Token) -> str:
    """What it allows, as the audit shows it."""
    return f"{token.role} {token.scope}".strip()


def _created(token: Token) -> Entry:
    return Entry(
        subject="token",
        key=token.name,
        action="add",
        old_value=None,
        new_value=described(token),
        effective_at=token.created_at,
        effective_until=token.expires_at,
    )


def _revoked(token: Token) -> Entry:
    return Entry(
        subject="token",
        key=token.name,
        action="delete",
        old_value=described(token),
        new_value=None,
        effective_at=token.revoked_at,
    )


def _log_change(action: str, token: Token, author: Author) -> None:
    fields = {"token": token.name, "allows": described(token), "actor": author.actor}
    _log.info("token changed", extra={"action": action, **fields})


async def _one(
    connection: Connection, statement: Query, values: Parameters, kind: type[_Row]
) -> _Row | None:
    rows = await rows_of(connection, statement, values, kind)
    return rows[0] if rows else None
