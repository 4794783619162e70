"""A service that was taken over cannot do what is not its work."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from decimal import Decimal

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import TupleRow

from aggregator.clock import utc_now
from aggregator.store.embedded import Server
from aggregator.store.embedded.cluster import ROLE, SERVICE_LOGIN
from aggregator.store.grants import Role
from tests.integration.aggregator.rows import Rows
from tests.integration.aggregator.store.acting import acting

Connection = psycopg.Connection[TupleRow]
DAY = timedelta(days=1)


@pytest.fixture
def sessions(
    timescaledb: Server, database_url: str, rows: Rows, database: Connection
) -> Iterator[dict[Role, Connection]]:
    """One of each service, on a database with a chunk of usage that nobody rated."""
    rows.ratio("cpu", "1")
    rows.bill(amount=Decimal(1))
    then = utc_now() - 30 * DAY
    database.execute(
        "INSERT INTO ingest_group (created_at, record_count, min_started_at, max_ended_at)"
        " VALUES (now(), 1, %s, %s)",
        (then, then),
    )
    database.execute("INSERT INTO usage VALUES (1, %s, %s, 1, 1, 1, 1, 1)", (then, then))
    with ExitStack() as stack:
        yield {role: stack.enter_context(acting(timescaledb, database_url, role)) for role in Role}


def chunk(database: Connection) -> str:
    """The one chunk of raw usage."""
    row = database.execute(
        "SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks"
    ).fetchone()
    assert row is not None
    return str(row[0])


ALL = list(Role)
INGEST, RATER, API, MAINTENANCE = Role

ATTACKS = [
    ("UPDATE usage SET allocated = 0", ALL),
    ("DELETE FROM usage", ALL),
    ("DELETE FROM batch", ALL),
    ("DELETE FROM ratio", ALL),
    ("DELETE FROM charge", ALL),
    ("DELETE FROM bill", ALL),
    ("UPDATE ratio SET value = 0", ALL),
    ("UPDATE ratio SET starts_at = now()", ALL),
    ("UPDATE charge SET amount = 0", [INGEST, API, MAINTENANCE]),
    ("UPDATE charge SET bill_id = gen_random_uuid()", ALL),
    ("UPDATE bill SET amount = 0", [INGEST, API, MAINTENANCE]),
    ("UPDATE bill SET user_id = gen_random_uuid()", ALL),
    ("UPDATE stream SET acked_through = 0", [RATER, API, MAINTENANCE]),
    ("UPDATE ingest_group SET rated_at = NULL", [INGEST, API, MAINTENANCE]),
    ("INSERT INTO usage SELECT * FROM usage", ALL),
    ("DELETE FROM audit", ALL),
    ("UPDATE audit SET actor = 'nobody'", ALL),
    ("DELETE FROM period", ALL),
    ("UPDATE period SET digest = ''", ALL),
    ("DELETE FROM adjustment", ALL),
    ("UPDATE adjustment SET amount = 0", ALL),
    ("INSERT INTO period SELECT * FROM period", [INGEST, RATER, MAINTENANCE]),
    ("SELECT value FROM ratio", [INGEST, MAINTENANCE]),
    ("SELECT * FROM bill", [INGEST, MAINTENANCE]),
    ("UPDATE schema_migration SET checksum = ''", ALL),
    ("TRUNCATE usage", ALL),
    ("TRUNCATE bill", ALL),
    ("DROP TABLE usage", ALL),
    ("ALTER TABLE charge DISABLE TRIGGER ALL", ALL),
    ("ALTER TABLE ratio DISABLE TRIGGER USER", ALL),
    ("ALTER TABLE ratio DROP CONSTRAINT ratio_key_validity_excl", ALL),
    ("DROP TRIGGER ratio_ends_at_guard ON ratio", ALL),
    ("SET session_replication_role = replica", ALL),
    ("LOCK TABLE usage IN ACCESS EXCLUSIVE MODE", ALL),
    ("CREATE TABLE mine (n integer)", ALL),
    ("CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'", ALL),
    ("CREATE SCHEMA mine", ALL),
    ("SELECT drop_chunks('usage', older_than => now())", ALL),
    ("SELECT add_chunks(1)", [INGEST, RATER, API]),
    ("SELECT drop_usage_chunks(2)", [INGEST, RATER, API]),
    ("COPY usage TO '/tmp/stolen'", ALL),
    ("SELECT pg_read_file('/etc/passwd')", ALL),
    (f"SET ROLE {ROLE}", ALL),
    (f"SET SESSION AUTHORIZATION {ROLE}", ALL),
    (f"ALTER ROLE {SERVICE_LOGIN} SUPERUSER", ALL),
    (f"GRANT {ROLE} TO {SERVICE_LOGIN}", ALL),
]


@pytest.mark.parametrize("role", ALL)
def test_what_is_not_its_work_is_refused(sessions: dict[Role, Connection], role: Role) -> None:
    """On tables as they are known, by statements as anybody would try them."""
    for statement, roles in ATTACKS:
        if role in roles:
            done = attempt(sessions[role], statement)
            assert done is not None, statement
            assert isinstance(done, errors.InsufficientPrivilege), (statement, done)


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE {} SET allocated = 0",
        "DELETE FROM {}",
        "TRUNCATE {}",
        "DROP TABLE {}",
        "ALTER TABLE {} NO INHERIT usage",
        "ALTER TABLE {} DROP CONSTRAINT constraint_1",
        "SELECT _timescaledb_functions.drop_chunk('{}')",
        "SELECT _timescaledb_internal.drop_chunk('{}')",
        "SELECT _timescaledb_functions.freeze_chunk('{}')",
    ],
)
def test_a_chunk_is_out_of_reach_by_any_name(
    sessions: dict[Role, Connection], database: Connection, attack: str
) -> None:
    """It has the rights of its table; and TimescaleDB's own drop_chunk asks for none."""
    for role, session in sessions.items():
        done = attempt(session, attack.format(chunk(database)))
        assert isinstance(done, errors.InsufficientPrivilege), (role, done)
    assert database.execute("SELECT count(*) FROM usage").fetchone() == (1,)


@pytest.mark.parametrize("role", ALL)
def test_who_gives_up_its_role_is_nobody(sessions: dict[Role, Connection], role: Role) -> None:
    """RESET ROLE leads back to the service's role, SET ROLE NONE to one without any right."""
    session = sessions[role]
    session.execute("RESET ROLE")
    assert session.execute("SELECT current_user").fetchone() == (role,)
    session.execute("SET ROLE NONE")
    assert session.execute("SELECT current_user").fetchone() == (SERVICE_LOGIN,)
    for table in ("usage", "ratio", "bill", "stream", "schema_migration"):
        assert isinstance(attempt(session, f"SELECT * FROM {table}"), errors.InsufficientPrivilege)


def test_usage_that_is_not_rated_is_not_dropped_by_any_trick(
    sessions: dict[Role, Connection], database: Connection
) -> None:
    """Neither with absurd days, nor in a snapshot of before, nor by other tables in the path."""
    session = sessions[MAINTENANCE]
    assert session.execute("SELECT drop_usage_chunks(2)").fetchone() == (0,)
    for days in ("-100", "0", "1", "NULL"):
        done = attempt(session, f"SELECT drop_usage_chunks({days})")
        assert isinstance(done, errors.InvalidParameterValue), days
    session.execute("SET default_transaction_isolation = 'repeatable read'")
    done = attempt(session, "SELECT drop_usage_chunks(2)")
    assert isinstance(done, errors.InvalidTransactionState)
    session.execute("RESET default_transaction_isolation")
    session.execute("SET search_path = pg_temp, pg_catalog")
    assert session.execute("SELECT public.drop_usage_chunks(2)").fetchone() == (0,)
    assert database.execute("SELECT count(*) FROM usage").fetchone() == (1,)


def test_an_end_of_a_price_is_brought_forward_and_never_put_back(
    sessions: dict[Role, Connection], rows: Rows
) -> None:
    """Nor taken away: what was declared to be over stays over."""
    session = sessions[API]
    end = utc_now().replace(second=0, microsecond=0) + DAY
    ratio_id = rows.ratio("mem", "1", ends_at=end)
    update = "UPDATE ratio SET ends_at = %s WHERE ratio_id = %s"
    session.execute(update, (end - DAY / 2, ratio_id))
    for later in (end, None):
        with pytest.raises(errors.RestrictViolation, match="cannot end later"):
            session.execute(update, (later, ratio_id))


def test_a_right_cannot_be_handed_on(
    sessions: dict[Role, Connection], database: Connection
) -> None:
    """PostgreSQL warns, and gives nothing; or refuses."""
    before = "SELECT relacl::text FROM pg_class WHERE oid = 'usage'::regclass"
    rights = database.execute(before).fetchone()
    for session in sessions.values():
        attempt(session, "GRANT ALL ON usage TO PUBLIC; COMMIT")
    assert database.execute(before).fetchone() == rights


def attempt(session: Connection, statement: str) -> psycopg.Error | None:
    """What the database says to it; None: it did it."""
    try:
        with session.transaction(force_rollback=True):
            session.execute(statement.encode())
    except psycopg.Error as error:
        return error
    return None
