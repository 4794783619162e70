"""The services' roles and rights: made by every migration, or told to whoever can make them."""

import logging
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from aggregator.errors import (
    RoleRefusedError,
    RolesMissingError,
    SchemaIncompleteError,
    SchemaOlderError,
    SchemaPrivilegeError,
)
from aggregator.store.embedded import SERVICE_LOGIN, Server, ensure_server
from aggregator.store.grants import Role
from aggregator.store.migrate import known_migrations, migrate, prepare
from aggregator.store.pool import connect, login_of, open_pool
from aggregator.store.queries import query
from tests.migration.test_migrate import execute

Connection = psycopg.Connection[TupleRow]


@pytest.fixture
def database(database_url: str) -> Iterator[Connection]:
    """The migrated database, as its owner."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def state() -> Iterator[Path]:
    """A state directory that the server's account can reach."""
    folder = Path(tempfile.mkdtemp(prefix="nodemeter-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def plain_url(migrated_template: str, empty_database_url: str) -> Iterator[str]:
    """An empty database that belongs to an account with no other rights, and how that logs in.

    The roles are there, since another database of the server was migrated.
    """
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION timescaledb")
        url = plain_owner(connection, empty_database_url)
    yield url
    name = sql.Identifier(login_of(url))
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(name))
        connection.execute(sql.SQL("DROP OWNED BY {}").format(name))
        connection.execute(sql.SQL("DROP ROLE {}").format(name))


def plain_owner(connection: Connection, url: str) -> str:
    """Give the database to a new account without CREATEROLE; its URL."""
    name = f"plain_{secrets.token_hex(4)}"
    database = str(connection.info.dbname)
    connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'p'").format(sql.Identifier(name)))
    connection.execute(
        sql.SQL("ALTER DATABASE {} OWNER TO {}").format(*map(sql.Identifier, (database, name)))
    )
    return f"postgresql://{name}:p@{url.partition('@')[2]}"


def told(error: RolesMissingError) -> list[str]:
    """The statements of the message."""
    return [line.strip() for line in str(error).splitlines()[1:]]


def test_who_may_not_make_members_is_told_the_statements_and_then_works(
    plain_url: str, empty_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They stand in the message as a superuser can paste them; nothing was begun before."""
    with pytest.raises(RolesMissingError) as caught:
        migrate(plain_url)
    statements = told(caught.value)
    login = login_of(plain_url)
    assert statements[0] == f"GRANT nodemeter_api TO {login} WITH INHERIT FALSE, SET TRUE;"
    assert len(statements) == len(Role)
    for statement in statements:
        execute(empty_database_url, statement)
    caplog.set_level(logging.WARNING)
    assert migrate(plain_url) == [each.name for each in known_migrations()]
    (warning,) = (each for each in caplog.records if vars(each).get("action") == "grant")
    assert (
        "REVOKE EXECUTE ON FUNCTION _timescaledb_functions.drop_chunk(regclass) FROM PUBLIC"
        in (vars(warning)["statements"])
    )
    for role in Role:
        with connect(plain_url, role) as connection:
            assert connection.execute("SELECT current_user").fetchone() == (role,)
    with connect(plain_url, Role.MAINTENANCE) as connection:
        assert connection.execute("SELECT add_chunks(2)").fetchone() == (7,)
    with connect(plain_url, Role.INGEST) as connection:
        connection.execute(
            "INSERT INTO usage VALUES (1, now() - interval '9 days', now(), 1, 1, 1, 1, 1)"
        )


def test_what_public_may_do_by_default_is_taken_away(
    empty_database_url: str,
) -> None:
    """By a superuser: TimescaleDB's own drop_chunk, tables of a session's own, new tables."""
    migrate(empty_database_url, login=SERVICE_LOGIN)
    with psycopg.connect(empty_database_url) as connection:
        row = connection.execute(
            "SELECT bool_or(has_function_privilege('public', oid, 'EXECUTE')) FROM pg_proc"
            " WHERE proname IN ('drop_chunk', 'freeze_chunk', 'attach_osm_table_chunk')"
            " AND pronamespace = '_timescaledb_functions'::regnamespace"
        ).fetchone()
        assert row == (False,)
        row = connection.execute(
            "SELECT has_database_privilege('public', current_database(), 'TEMPORARY'),"
            " has_schema_privilege('public', 'public', 'CREATE')"
        ).fetchone()
        assert row == (False, False)


def test_who_may_not_make_tables_is_told_so(
    timescaledb: Server, migrated_template: str, empty_database_url: str
) -> None:
    """A login that owns nothing, on a database without tables."""
    execute(empty_database_url, "CREATE EXTENSION timescaledb")
    url = timescaledb.service_url_of(str(conninfo_to_dict(empty_database_url)["dbname"]))
    with pytest.raises(SchemaPrivilegeError, match=r"owner_url.*GRANT CREATE ON SCHEMA public"):
        prepare(url, "")


def test_the_services_login_serves_what_the_owner_migrated(
    database: Connection, service_url: str, database_url: str
) -> None:
    """With the owner's URL it migrates as the owner; without, it looks, and says who must."""
    prepare(service_url, database_url)
    prepare(service_url, "")
    database.execute(
        "DELETE FROM schema_migration WHERE version = (SELECT max(version) FROM schema_migration)"
    )
    with pytest.raises(SchemaOlderError, match=rf"{known_migrations()[-1].name}.*owner_url"):
        prepare(service_url, "")


async def test_a_login_that_may_not_act_as_a_service_is_named(plain_url: str) -> None:
    """With the two ways to let it."""
    with pytest.raises(RoleRefusedError, match=r"may not act as nodemeter_rater.*GRANT"):
        await open_pool(plain_url, role=Role.RATER)


def test_rights_that_were_taken_or_given_are_set_right(
    database: Connection, database_url: str
) -> None:
    """By the next start; what a site gave its own accounts is the site's."""
    reader = sql.Identifier(f"reader_{secrets.token_hex(4)}")
    rights = "SELECT relacl::text[] FROM pg_class WHERE oid = 'bill'::regclass"
    before = database.execute(rights).fetchone()
    for statement in (
        "REVOKE INSERT ON usage FROM nodemeter_ingest",
        "REVOKE UPDATE (ends_at) ON ratio FROM nodemeter_api",
        "REVOKE EXECUTE ON FUNCTION add_chunks FROM nodemeter_maintenance",
        "GRANT DELETE, UPDATE ON bill TO nodemeter_rater",
        "GRANT UPDATE (user_id) ON bill TO nodemeter_api",
        "GRANT SELECT ON ratio TO PUBLIC",
        "GRANT EXECUTE ON FUNCTION drop_usage_chunks TO PUBLIC",
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
    ):
        database.execute(statement)
    database.execute(sql.SQL("CREATE ROLE {}").format(reader))
    try:
        database.execute(sql.SQL("GRANT SELECT ON charge TO {}").format(reader))
        assert migrate(database_url) == []
        assert database.execute(rights).fetchone() == before
        right = b"SELECT has_table_privilege('nodemeter_ingest', 'usage', 'INSERT'),"
        right += b" has_column_privilege('nodemeter_api', 'ratio', 'ends_at', 'UPDATE'),"
        right += b" has_column_privilege('nodemeter_rater', 'bill', 'amount', 'UPDATE'),"
        right += b" has_table_privilege('nodemeter_rater', 'bill', 'UPDATE'),"
        right += b" has_column_privilege('nodemeter_api', 'bill', 'user_id', 'UPDATE'),"
        right += b" has_table_privilege('public', 'ratio', 'SELECT'),"
        right += b" has_function_privilege('public', 'drop_usage_chunks(integer)', 'EXECUTE')"
        wanted = (True, True, True, False, False, False, False)
        assert database.execute(right).fetchone() == wanted
        row = database.execute(
            sql.SQL("SELECT has_table_privilege({}, 'charge', 'SELECT')").format(
                sql.Literal(reader.as_string().strip('"'))
            )
        ).fetchone()
        assert row == (True,)
    finally:
        database.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(reader))


def test_a_table_that_somebody_dropped_is_named_at_the_start(
    database: Connection, database_url: str
) -> None:
    """No migration makes it again: only a backup has what was in it."""
    database.execute("DROP TABLE stream_gap")
    with pytest.raises(SchemaIncompleteError, match=r"table stream_gap.*restore a backup"):
        migrate(database_url)


def test_data_of_before_the_roles_gets_them_where_it_is(software_dir: Path, state: Path) -> None:
    """A cluster without roles and login, a schema without guards, usage in a chunk.

    And in the same cluster, a database of an account that may not make roles.
    """
    with ensure_server(state, settings=QUICK, software_dirs=[software_dir]) as server:
        age(server)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE another")
        execute(server.url_of("another"), "CREATE EXTENSION timescaledb")
        with psycopg.connect(server.url_of("another"), autocommit=True) as connection:
            plain = plain_owner(connection, server.url_of("another"))
        with pytest.raises(RolesMissingError) as caught:
            migrate(plain)
        assert told(caught.value)[:2] == [
            "CREATE ROLE nodemeter_api NOLOGIN;",
            "CREATE ROLE nodemeter_ingest NOLOGIN;",
        ]
    with ensure_server(
        state, port=server.port, settings=QUICK, software_dirs=[software_dir]
    ) as server:
        assert "0006_guards.sql" in migrate(server.url, login=SERVICE_LOGIN)
        with connect(server.service_url, Role.RATER) as connection:
            assert connection.execute("SELECT count(*) FROM usage").fetchone() == (1,)
        delete = sql.SQL("DELETE FROM {}").format(sql.Identifier(*CHUNK))
        with (
            connect(server.service_url, Role.INGEST) as connection,
            pytest.raises(errors.InsufficientPrivilege),
        ):
            connection.execute(delete)
        for statement in told(caught.value):
            with suppress(errors.DuplicateObject):
                execute(server.url_of("another"), statement)
        assert migrate(plain)


QUICK = {"fsync": "off"}
CHUNK = ("_timescaledb_internal", "_hyper_1_1_chunk")


def age(server: Server) -> None:
    """Make the cluster as the version before the roles left it."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION timescaledb")
        connection.execute(query("create_schema_migration"))
        for each in known_migrations()[:2]:
            connection.execute(each.text)
            row = {"version": each.version, "name": each.name, "checksum": each.checksum}
            connection.execute(query("insert_schema_migration"), row)
        connection.execute("INSERT INTO usage VALUES (1, now(), now(), 1, 1, 1, 1, 1)")
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(SERVICE_LOGIN)))
    (server.cluster.folder / "service-password").unlink()
