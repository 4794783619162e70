"""Quotas that are reserved for projects, used or not; versioned like ratios, priced by nobody.

The Cost API's method ProjectQuota shows them times the hours that they held.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from difflib import get_close_matches
from typing import Literal

from aggregator.billing.audit import Author, Entry, Subject, record
from aggregator.billing.database import Connection, Database, rows_of
from aggregator.billing.ratios import clock_of
from aggregator.model import DECLARATION_LOCK, Period, ResourceType
from aggregator.rating.versions import (
    Change,
    Declaration,
    Version,
    declare,
    effect_of,
    held_at,
    next_minute,
    withdraw,
)
from aggregator.store.queries import query
from aggregator.units import UNITS, Unit

_LOCK_DECLARATIONS = query("lock_declarations")
_LIST_LIVE_QUOTAS = query("list_live_quotas")
_LIST_QUOTA_HISTORY = query("list_quota_history")
_CLOSE_QUOTA = query("close_quota")
_INSERT_QUOTA = query("insert_quota")
_IS_KNOWN_PROJECT = query("is_known_project")
_LIST_PROJECTS = query("list_projects")
_LIST_RESERVED = query("list_reserved")

_NAMES_LOOKED_AT = 10_000


class UnknownProjectError(LookupError):
    """No job and no quota ever named the project; the text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What is reserved: `quantity` base units over [starts_at, ends_at)."""

    project: str
    type: str
    quantity: int
    starts_at: datetime
    ends_at: datetime | None

    @property
    def unit(self) -> Unit:
        """The unit in which it is shown."""
        return UNITS[ResourceType(self.type)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PastQuota(Quota):
    """A version with its whole story; equal times: replaced before it took effect."""

    created_at: datetime
    created_by: str
    reason: str | None
    closed_at: datetime | None
    closed_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaDifference:
    """What a change does, in base units; None: nothing is reserved."""

    project: str
    type: ResourceType
    action: Literal["add", "change", "delete", "keep"]
    old: int | None
    new: int | None
    effective_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """What was reserved over a range, in base unit x ms."""

    project: str
    type: str
    reserved: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row(Quota):
    project_quota_id: int

    def version(self) -> Version[int]:
        return Version(
            version_id=self.project_quota_id,
            value=self.quantity,
            starts_at=self.starts_at,
            ends_at=self.ends_at,
        )


async def list_quotas(database: Database, project: str | None = None) -> Sequence[Quota]:
    """What is reserved now or later, by project, type and start."""
    async with database.reading() as connection:
        at = next_minute(await clock_of(connection))
        return await _live(connection, at, project)


async def list_quota_history(database: Database, project: str | None) -> Sequence[PastQuota]:
    """Every version, the newest declaration first within its project and type."""
    async with database.reading() as connection:
        return await rows_of(connection, _LIST_QUOTA_HISTORY, {"project": project}, PastQuota)


async def list_reserved(
    database: Database, period: Period, project: str | None = None
) -> Sequence[Reserved]:
    """Quota x time within a range, by project and type."""
    asked = {"starts_at": period.start, "ends_at": period.end, "project": project}
    async with database.reading() as connection:
        return await rows_of(connection, _LIST_RESERVED, asked, Reserved)


async def set_quota(
    database: Database,
    project: str,
    type_: ResourceType,
    wanted: Declaration[int],
    author: Author,
    *,
    is_new: bool = False,
) -> QuotaDifference:
    """Reserve a quantity. `is_new`: the project need not be known.

    Raises UnknownProjectError, StartError and EndError.
    """
    async with database.changing() as connection:
        versions, now = await _locked(connection, project, type_)
        if not is_new:
            await _check_known(connection, project)
        change = declare(versions, wanted, now)
        before = held_at(versions, effect_of(wanted, now))
        difference = QuotaDifference(
            project=project,
            type=type_,
            action="keep" if change is None else "change" if before else "add",
            old=before.value if before else None,
            new=wanted.value,
            effective_at=change.opens[0].starts_at if change else None,
        )
        await _write(connection, change, difference, author)
    return difference


async def delete_quota(
    database: Database, project: str, type_: ResourceType, author: Author
) -> QuotaDifference | None:
    """Reserve nothing from the next minute on; None if nothing is reserved."""
    async with database.changing() as connection:
        versions, now = await _locked(connection, project, type_)
        change = withdraw(versions, now)
        if change is None:
            return None
        before = held_at(versions, next_minute(now))
        difference = QuotaDifference(
            project=project,
            type=type_,
            action="delete",
            old=before.value if before else None,
            new=None,
            effective_at=change.closes[0][1],
        )
        await _write(connection, change, difference, author)
    return difference


async def _locked(
    connection: Connection, project: str, type_: ResourceType
) -> tuple[Sequence[Version[int]], datetime]:
    await connection.execute(_LOCK_DECLARATIONS, {"lock": DECLARATION_LOCK})
    now = await clock_of(connection)
    return [row.version() for row in await _live(connection, now, project, type_)], now


async def _check_known(connection: Connection, project: str) -> None:
    cursor = await connection.execute(_IS_KNOWN_PROJECT, {"project": project})
    if await cursor.fetchone() == (True,):
        return
    cursor = await connection.execute(_LIST_PROJECTS, {"limit": _NAMES_LOOKED_AT})
    near = get_close_matches(project, [str(row[0]) for row in await cursor.fetchall()], n=3)
    meant = f" (known ones are {', '.join(near)})" if near else ""
    raise UnknownProjectError(
        f"no job ever ran in a project {project!r}{meant}; if its jobs are to come, say that it "
        "is new"
    )


async def _write(
    connection: Connection,
    change: Change[int] | None,
    difference: QuotaDifference,
    author: Author,
) -> None:
    who = asdict(author)
    for version_id, ends_at in change.closes if change else ():
        row: dict[str, object] = {"version_id": version_id, "ends_at": ends_at}
        await connection.execute(_CLOSE_QUOTA, row | who)
    for opening in change.opens if change else ():
        row = {
            "project": difference.project,
            "type": difference.type.value,
            "quantity": opening.value,
            "starts_at": opening.starts_at,
            "ends_at": opening.ends_at,
        }
        await connection.execute(_INSERT_QUOTA, row | who)
    await record(connection, [_entry(difference)] if change else [], author)


def _entry(difference: QuotaDifference) -> Entry:
    return Entry(
        subject=Subject.QUOTA,
        key=f"{difference.project}/{difference.type.value}",
        action=difference.action,
        old_value=None if difference.old is None else str(difference.old),
        new_value=None if difference.new is None else str(difference.new),
        effective_at=difference.effective_at,
    )


async def _live(
    connection: Connection,
    since: datetime,
    project: str | None = None,
    type_: ResourceType | None = None,
) -> Sequence[_Row]:
    asked = {"since": since, "project": project, "type": type_ and type_.value}
    return await rows_of(connection, _LIST_LIVE_QUOTAS, asked, _Row)
