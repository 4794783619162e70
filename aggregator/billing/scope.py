"""Whose usage a caller may see: what is outside of it is not there, in every dialect.

A use case that shows items, or anything that is of somebody, takes a `Scope` and gives its
parameters to the query, whose one condition is the SQL function `in_scope`. A test finds
queries that do without.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from uuid import UUID

from aggregator.billing.database import Connection, Parameters
from aggregator.store.queries import query

_LIST_SEEN_VCS = query("list_seen_vcs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A part of all usage: that of a user, a virtual cluster or a project; None is any."""

    user_id: UUID | None = None
    vc: str | None = None
    project: str | None = None

    @property
    def is_everything(self) -> bool:
        """Whether it leaves nothing out."""
        return self == EVERYTHING

    def parameters(self) -> Parameters:
        """The parameters of `in_scope`, by their names in every query."""
        return {
            "scope_user_id": self.user_id,
            "scope_vc": self.vc,
            "scope_project": self.project,
        }

    def __str__(self) -> str:
        """As the audit shows it."""
        parts = {"user": self.user_id, "vc": self.vc, "project": self.project}
        return " ".join(f"{name} {value}" for name, value in parts.items() if value is not None)


EVERYTHING = Scope()


async def seen_vcs(connection: Connection, scope: Scope) -> AbstractSet[str]:
    """The virtual clusters of whose existence the scope's jobs tell."""
    cursor = await connection.execute(_LIST_SEEN_VCS, scope.parameters())
    return {row[0] for row in await cursor.fetchall()} | ({scope.vc} if scope.vc else set())
