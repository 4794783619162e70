"""What each service may do to each table: all of it stands here, and nothing else is granted.

`migrate` brings a database to this (see `roles`), /readyz asks for it, and a test holds it to
the matrix that is wanted. A new table, or a new function, is declared here even where no
service may touch it: a test fails for one that is not.

Nobody but the owner may DELETE, TRUNCATE or change a table, or reach a chunk: what only the
owner may do, such as making and dropping chunks, is done by the `FUNCTIONS` that check for
themselves whether it may be done.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias


class Role(StrEnum):
    """What a session of a service is in the database. No login; a cluster has them once."""

    INGEST = "nodemeter_ingest"
    RATER = "nodemeter_rater"
    API = "nodemeter_api"
    MAINTENANCE = "nodemeter_maintenance"


@dataclass(frozen=True, slots=True)
class Right:
    """A privilege on a table; `columns`: on those alone."""

    privilege: str
    columns: tuple[str, ...] = ()


Rights: TypeAlias = Mapping[Role, Sequence[Right]]
_Row: TypeAlias = tuple[str, str, str | None, str, str]
"""Kind, name, column, role, privilege."""

SELECT: Final = Right("SELECT")
INSERT: Final = Right("INSERT")


def select(*columns: str) -> Right:
    """Read those columns."""
    return Right("SELECT", columns)


def update(*columns: str) -> Right:
    """Change those columns; there is no right to change a whole row."""
    return Right("UPDATE", columns)


_SUMS = ("allocated", "used", "effective", "length_ms", "observed_ms")
_READ = {Role.RATER: (SELECT,), Role.API: (SELECT,)}
_CLOSED = (SELECT, INSERT, update("ends_at", "closed_at", "closed_by"))

TABLES: Final[Mapping[str, Rights]] = {
    # Who streams: ingest moves the marks.
    "node": {
        Role.INGEST: (
            SELECT,
            INSERT,
            update("cluster", "address", "boot_id", "machine_id", "agent_version", "cpu_m"),
            update("mem_kib", "cpu_model", "devices", "last_seen_at"),
        ),
        Role.API: (SELECT,),
    },
    "stream": {
        Role.INGEST: (
            SELECT,
            INSERT,
            update("machine_id", "epoch", "acked_through", "connected_at", "hello", "seizures"),
        ),
    },
    "claim": {Role.INGEST: (SELECT, INSERT, update("stream_id", "moved_at"))},
    "claim_floor": {Role.INGEST: (SELECT, INSERT, update("floor_at"))},
    "ingest_group": {
        Role.INGEST: (SELECT, INSERT),
        Role.RATER: (SELECT, update("rated_at")),
        Role.API: (SELECT,),
    },
    "batch": {Role.INGEST: (SELECT, INSERT)},
    "stream_gap": {Role.INGEST: (SELECT, INSERT)},
    "quarantine": {Role.INGEST: (SELECT, INSERT)},
    # What is metered: it is inserted, and a run ends. Ingest reads how far things are told.
    "billing_user": {Role.INGEST: (SELECT, INSERT, update("username")), Role.API: (SELECT,)},
    "run": {
        Role.INGEST: (SELECT, INSERT, update("ended_at", "ended_group_id", "settled_at")),
        Role.RATER: (SELECT, update("settled_at")),
        Role.API: (SELECT,),
    },
    "price_class": {Role.INGEST: (SELECT, INSERT), **_READ},
    "meter": {Role.INGEST: (SELECT, INSERT), **_READ},
    "node_meter": {Role.INGEST: (SELECT, INSERT), Role.API: (SELECT,)},
    "usage": {
        Role.INGEST: (select("meter_id", "started_at", "ended_at", "ingest_group_id"), INSERT),
        **_READ,
    },
    # What is declared: a version is closed, never edited; who did it is appended.
    "ratio": {Role.RATER: (SELECT,), Role.API: _CLOSED},
    "method": {Role.RATER: (SELECT,), Role.API: _CLOSED},
    "project_quota": {Role.API: _CLOSED},
    "currency_rate": {Role.API: (SELECT, INSERT, update("ends_on", "closed_at", "closed_by"))},
    "audit": {Role.API: (SELECT, INSERT)},
    "token": {Role.API: (SELECT, INSERT, update("revoked_at", "revoked_by", "last_used_at"))},
    # Periods, sealed hours, and what is booked after that: appended only.
    "period": {Role.RATER: (SELECT,), Role.API: (SELECT, INSERT)},
    "seal": {Role.RATER: (SELECT, INSERT), Role.API: (SELECT,)},
    "adjustment": {
        Role.INGEST: (select("meter_id", "ended_at"),),
        Role.RATER: (SELECT, INSERT),
        Role.API: (SELECT,),
    },
    "late_account": {
        Role.INGEST: (select("meter_id", "hour"),),
        Role.RATER: (INSERT,),
        Role.API: (SELECT,),
    },
    "rerate": {Role.RATER: (SELECT,), Role.API: (SELECT, INSERT)},
    "rerate_progress": {
        Role.RATER: (
            SELECT,
            update("through_meter_id", "charge_count", "line_count", "updated_at", "finished_at"),
        ),
        Role.API: (SELECT, INSERT),
    },
    "booking": _READ,
    # What follows: sums of the rater.
    "charge": {
        Role.INGEST: (select("meter_id", "ended_at"),),
        Role.RATER: (
            SELECT,
            INSERT,
            update("started_at", "ended_at", *_SUMS, "billed", "amount", "peak"),
        ),
        Role.API: (SELECT,),
    },
    "daily": {
        Role.RATER: (
            SELECT,
            INSERT,
            update("allocated", "used", "effective", "length_ms"),
            update("billed", "unpriced", "amount", "peak"),
        ),
        Role.API: (SELECT,),
    },
    "daily_class": {
        Role.RATER: (
            SELECT,
            INSERT,
            update("allocated", "used", "effective", "length_ms"),
            update("billed", "unpriced", "amount"),
        ),
        Role.API: (SELECT,),
    },
    "item_class": {Role.RATER: (SELECT, INSERT), Role.API: (SELECT,)},
    "bill": {
        Role.RATER: (
            SELECT,
            INSERT,
            update("first_day", "last_day", "ended_at", *_SUMS, "billed", "unpriced", "amount"),
            update("ratio_id", "is_mixed"),
        ),
        Role.API: (SELECT,),
        Role.MAINTENANCE: (select("is_unpriced"),),
    },
    "node_account": {
        Role.INGEST: (select("meter_id", "hour", "ended_at"),),
        Role.RATER: (SELECT, INSERT, update("ended_at", *_SUMS)),
        Role.API: (SELECT,),
    },
    # The books of `migrate`.
    "schema_migration": {Role.API: (SELECT,)},
}

SEQUENCES: Final[Mapping[str, Sequence[Role]]] = {"stream_hello_seq": (Role.INGEST,)}
"""Those that a statement counts by its name; an identity column needs no right."""

FUNCTIONS: Final[Mapping[str, Sequence[Role]]] = {
    "add_chunks": (Role.MAINTENANCE,),
    "drop_usage_chunks": (Role.MAINTENANCE,),
    "forget_digests": (Role.MAINTENANCE,),
    "refuse_later_end": (),  # a trigger's
    "in_scope": (Role.API,),
}


def wanted() -> Mapping[str, list[str] | list[str | None]]:
    """All of it as the parameters of `list_grant_statements` and `list_missing_objects`."""
    rows = list(_rows())
    kinds, names, columns, roles, privileges = zip(*rows, strict=True)
    return {
        "kinds": list(kinds),
        "names": list(names),
        "columns": list(columns),
        "roles": list(roles),
        "privileges": list(privileges),
        "service_roles": list(Role),
    }


def _rows() -> Iterator[_Row]:
    for table, rights in TABLES.items():
        for role, each in rights.items():
            yield from _table_rows(table, role, each)
    for sequence, roles in SEQUENCES.items():
        for role in roles:
            yield "SEQUENCE", sequence, None, role, "USAGE"
    for function, roles in FUNCTIONS.items():
        for role in roles:
            yield "FUNCTION", function, None, role, "EXECUTE"


def _table_rows(table: str, role: Role, rights: Sequence[Right]) -> Iterator[_Row]:
    for right in rights:
        for column in right.columns or (None,):
            yield "TABLE", table, column, role, right.privilege
