"""What each service may do in the database: the whole matrix, and all its own statements."""

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

import psycopg
import pytest

from aggregator.model import RATER_LOCK
from aggregator.store.embedded import Server
from aggregator.store.grants import FUNCTIONS, TABLES, Role
from aggregator.store.migrate import known_migrations
from aggregator.store.queries import parse
from tests.integration.aggregator.store.acting import acting
from tests.integration.aggregator.store.test_prepare import PREPARABLE, numbered

INGEST, RATER, API, MAINTENANCE = Role

MATRIX: Final[dict[str, dict[Role, str]]] = {
    "adjustment": {INGEST: "select(ended_at meter_id)", RATER: "insert select", API: "select"},
    "audit": {API: "insert select"},
    "batch": {INGEST: "insert select"},
    "bill": {
        RATER: "insert select update(allocated amount billed effective ended_at first_day is_mixed"
        " last_day length_ms observed_ms ratio_id unpriced used)",
        API: "select",
        MAINTENANCE: "select(is_unpriced)",
    },
    "billing_user": {INGEST: "insert select update(username)", API: "select"},
    "booking": {RATER: "select", API: "select"},
    "charge": {
        INGEST: "select(ended_at meter_id)",
        RATER: "insert select update(allocated amount billed effective ended_at length_ms"
        " observed_ms peak started_at used)",
        API: "select",
    },
    "claim": {INGEST: "insert select update(moved_at stream_id)"},
    "claim_floor": {INGEST: "insert select update(floor_at)"},
    "currency_rate": {API: "insert select update(closed_at closed_by ends_on)"},
    "daily": {
        RATER: "insert select update(allocated amount billed effective length_ms peak unpriced"
        " used)",
        API: "select",
    },
    "daily_class": {
        RATER: "insert select update(allocated amount billed effective length_ms unpriced used)",
        API: "select",
    },
    "ingest_group": {INGEST: "insert select", RATER: "select update(rated_at)", API: "select"},
    "item_class": {RATER: "insert select", API: "select"},
    "late_account": {INGEST: "select(hour meter_id)", RATER: "insert", API: "select"},
    "meter": {INGEST: "insert select", RATER: "select", API: "select"},
    "method": {RATER: "select", API: "insert select update(closed_at closed_by ends_at)"},
    "node": {
        INGEST: "insert select update(address agent_version boot_id cluster cpu_m cpu_model devices"
        " last_seen_at machine_id mem_kib)",
        API: "select",
    },
    "node_account": {
        INGEST: "select(ended_at hour meter_id)",
        RATER: "insert select update(allocated effective ended_at length_ms observed_ms used)",
        API: "select",
    },
    "node_meter": {INGEST: "insert select", API: "select"},
    "price_class": {INGEST: "insert select", RATER: "select", API: "select"},
    "period": {RATER: "select", API: "insert select"},
    "project_quota": {API: "insert select update(closed_at closed_by ends_at)"},
    "quarantine": {INGEST: "insert select"},
    "ratio": {RATER: "select", API: "insert select update(closed_at closed_by ends_at)"},
    "rerate": {RATER: "select", API: "insert select"},
    "rerate_progress": {
        RATER: "select update(charge_count finished_at line_count through_meter_id updated_at)",
        API: "insert select",
    },
    "run": {
        INGEST: "insert select update(ended_at ended_group_id settled_at)",
        RATER: "select update(settled_at)",
        API: "select",
    },
    "schema_migration": {API: "select"},
    "seal": {RATER: "insert select", API: "select"},
    "stream": {
        INGEST: "insert select update(acked_through connected_at epoch hello machine_id seizures)"
    },
    "stream_gap": {INGEST: "insert select"},
    "token": {API: "insert select update(last_used_at revoked_at revoked_by)"},
    "usage": {
        INGEST: "insert select(ended_at ingest_group_id meter_id started_at)",
        RATER: "select",
        API: "select",
    },
}
"""What is wanted, said a second time: `aggregator.store.grants` is what is tested."""

CALLABLE: Final[dict[str, Sequence[Role]]] = {
    "add_chunks": [MAINTENANCE],
    "drop_usage_chunks": [MAINTENANCE],
    "forget_digests": [MAINTENANCE],
    "in_scope": [API],
    "refuse_later_end": [],
}

FILES: Final[dict[str, Role | None]] = {
    "chunks.sql": MAINTENANCE,
    "claims.sql": INGEST,
    "digests.sql": MAINTENANCE,
    "grants.sql": API,
    "ingest.sql": INGEST,
    "migrate.sql": None,
    "rater.sql": RATER,
    "rerate.sql": RATER,
}
"""Who runs a file's statements; None: the owner. Those of `api_*.sql` are the APIs'."""

ELSEWHERE: Final[dict[str, Role | None]] = {
    "count_all_unpriced_items": MAINTENANCE,
    "list_role_statements": None,
    "preview_rerate": API,
}
"""The statements that somebody else runs than their file's others."""

RIGHTS = """
    SELECT class.relname, role.name, lower(privilege.name),
           has_table_privilege(role.name, class.oid, privilege.name),
           ARRAY(SELECT attname::text FROM pg_attribute
                 WHERE attrelid = class.oid AND attnum > 0 AND NOT attisdropped
                   AND privilege.name IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
                   AND has_column_privilege(role.name, class.oid, attnum, privilege.name)
                 ORDER BY attname)
    FROM pg_class AS class
    CROSS JOIN unnest(%s::text[]) AS role (name)
    CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES',
                            'TRIGGER']) AS privilege (name)
    WHERE class.relnamespace = 'public'::regnamespace AND class.relkind IN ('r', 'p', 'v', 'm')
    ORDER BY 1, 2, 3
"""


def test_every_table_and_function_is_declared(migrated_database_url: str) -> None:
    """Whoever adds one says in `grants`, and here, what each service may do: if only nothing."""
    with psycopg.connect(migrated_database_url) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p', 'v', 'm', 'f')"
        ).fetchall()
        functions = connection.execute(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            " AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')"
        ).fetchall()
    assert {name for (name,) in tables} == set(TABLES) == set(MATRIX)
    assert {name for (name,) in functions} == set(FUNCTIONS) == set(CALLABLE)


def test_the_whole_matrix_is_as_it_is_wanted(migrated_database_url: str) -> None:
    """Every privilege of every service on every table; to delete or truncate: nobody."""
    found: dict[str, dict[str, list[str]]] = {}
    with psycopg.connect(migrated_database_url) as connection:
        rows = connection.execute(RIGHTS, ([*Role, "public"],)).fetchall()
    for table, role, privilege, is_whole, columns in rows:
        if is_whole or columns:
            word = privilege if is_whole else f"{privilege}({' '.join(columns)})"
            found.setdefault(table, {}).setdefault(role, []).append(word)
    wanted = {
        table: {str(role): re.findall(r"\w+(?:\([^)]*\))?", text) for role, text in cells.items()}
        for table, cells in MATRIX.items()
    }
    assert found == wanted


@pytest.mark.parametrize("role", Role)
def test_functions_are_called_by_those_they_are_for(migrated_database_url: str, role: Role) -> None:
    """And by nobody else."""
    with psycopg.connect(migrated_database_url) as connection:
        rows = connection.execute(
            "SELECT proname, has_function_privilege(%s, oid, 'EXECUTE') FROM pg_proc"
            " WHERE pronamespace = 'public'::regnamespace AND proname = ANY (%s)",
            (role, list(CALLABLE)),
        ).fetchall()
    assert dict(rows) == {name: role in roles for name, roles in CALLABLE.items()}


@pytest.mark.parametrize("role", Role)
def test_a_service_may_do_all_that_it_does(
    timescaledb: Server, migrated_database_url: str, role: Role
) -> None:
    """Each of its statements: a plan is made only for who may run it."""
    with acting(timescaledb, migrated_database_url, role) as connection:
        for name, text in statements_of(role):
            try:
                connection.execute(b"EXPLAIN (GENERIC_PLAN) " + numbered(text))
            except psycopg.errors.InsufficientPrivilege as error:
                pytest.fail(f"{role} may not {name}: {error}")


def statements_of(role: Role) -> list[tuple[str, bytes]]:
    """The statements that a service runs; KeyError for a file that nobody is said to run."""
    found: list[tuple[str, bytes]] = []
    for file in (files("aggregator.store") / "sql").iterdir():
        own = API if file.name.startswith("api_") else FILES[file.name]
        found += [
            (name, text.encode())
            for name, text in parse(file.read_text())
            if ELSEWHERE.get(name, own) is role and name in PREPARABLE
        ]
    assert found
    return found


def test_the_owners_functions_take_the_locks_of_the_others() -> None:
    """SQL cannot import the number."""
    (guards,) = (each for each in known_migrations() if each.name == "0006_guards.sql")
    assert f"pg_advisory_xact_lock({RATER_LOCK})" in guards.text.decode()
