"""Who changed, closed or ordered what: written in the transaction that does it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

from aggregator.billing.database import Connection, Database, rows_of
from aggregator.store.queries import query

_INSERT_AUDIT = query("insert_audit")
_LIST_AUDIT = query("list_audit")


class Subject(StrEnum):
    """What can be declared, closed or ordered."""

    RATIO = "ratio"
    METHOD = "method"
    QUOTA = "quota"
    CURRENCY = "currency"
    PERIOD = "period"
    RERATE = "rerate"
    TOKEN = "token"  # noqa: S105 - a word


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who changes something, and why."""

    actor: str
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A change: `old_value` None: nothing was declared; `new_value` None: nothing is now."""

    subject: str
    key: str
    action: str
    old_value: str | None
    new_value: str | None
    effective_at: datetime | None
    effective_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedChange(Entry):
    """A change with who, when and why."""

    changed_at: datetime
    actor: str
    reason: str | None


async def record(connection: Connection, entries: Sequence[Entry], author: Author) -> None:
    """Append changes that the connection's transaction makes."""
    if not entries:
        return
    rows = [asdict(entry) | asdict(author) for entry in entries]
    async with connection.cursor() as cursor:
        await cursor.executemany(_INSERT_AUDIT, rows)


async def list_changes(
    database: Database,
    *,
    subject: str | None = None,
    key: str | None = None,
    actor: str | None = None,
    limit: int,
) -> Sequence[AuditedChange]:
    """The newest changes first, at most `limit`."""
    asked = {"subject": subject, "key": key, "actor": actor, "limit": limit}
    async with database.reading() as connection:
        return await rows_of(connection, _LIST_AUDIT, asked, AuditedChange)
