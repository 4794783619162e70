"""A database comes to this software's schema, or the operator learns why it does not."""

import shutil
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import TupleRow

from aggregator.errors import (
    DatabaseAuthError,
    DatabaseEncodingError,
    DatabaseMissingError,
    DatabaseUnreachableError,
    DatabaseUrlError,
    MigrationFailedError,
    SchemaChangedError,
    SchemaNewerError,
    TimescaleMissingError,
    TimescaleNotPreloadedError,
    TimescalePrivilegeError,
    TimescaleVersionError,
)
from aggregator.store.embedded import Server, ensure_server
from aggregator.store.migrate import (
    Migration,
    check_timescale_version,
    known_migrations,
    migrate,
)
from aggregator.store.queries import query
from tests.integration.aggregator.sessions import waiting

SCHEMA = """
    SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns
    WHERE table_schema = 'public' ORDER BY 1, 2
"""
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2
"""
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"


def schema_of(url: str) -> Sequence[Sequence[TupleRow]]:
    """All that a migration could change."""
    with psycopg.connect(url) as connection:
        return [connection.execute(each).fetchall() for each in (SCHEMA, CONSTRAINTS, INDEXES)]


def execute(url: str, statement: str) -> None:
    """Do something to a database from outside."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def test_a_database_whose_schema_was_dropped_is_migrated_anew(database_url: str) -> None:
    """To empty a database is a usual way of beginning again."""
    before = schema_of(database_url)
    execute(database_url, "DROP SCHEMA public CASCADE")
    assert migrate(database_url) == [each.name for each in known_migrations()]
    assert schema_of(database_url) == before


def test_a_search_path_that_leads_nowhere_is_told(timescaledb: Server, database_url: str) -> None:
    """Nothing is made in a place that nobody named."""
    url = f"{database_url}{'&' if '?' in database_url else '?'}options=-csearch_path%3Dnowhere"
    with pytest.raises(MigrationFailedError, match=r"CREATE SCHEMA public.*already exists"):
        migrate(url)


def test_an_empty_database_is_migrated_and_stays_so(empty_database_url: str) -> None:
    """Again does nothing."""
    names = [each.name for each in known_migrations()]
    assert migrate(empty_database_url) == names
    before = schema_of(empty_database_url)
    assert migrate(empty_database_url) == []
    assert schema_of(empty_database_url) == before
    assert before[0]


def test_step_by_step_and_at_once_are_the_same(empty_database_url: str, database_url: str) -> None:
    """A database that was migrated one version at a time is no other."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION timescaledb")
        for each in known_migrations():
            connection.execute(each.text)
    step_by_step = [
        [row for row in rows if "schema_migration" not in row[0]]
        for rows in schema_of(empty_database_url)
    ]
    at_once = [
        [row for row in rows if "schema_migration" not in row[0]]
        for rows in schema_of(database_url)
    ]
    assert step_by_step == at_once


METERED = """
    INSERT INTO node (name, cluster, address, boot_id, machine_id, agent_version, cpu_m, mem_kib,
                      cpu_model, devices, first_seen_at, last_seen_at)
    VALUES ('n1', 'c1', '10.0.0.7', 'b', 'm', '0.1.0', 1, 1, '', '[]', now(), now());
    INSERT INTO run (node_id, run_key, provider, cluster, job_id, job_name, user_id, vc, project,
                     namespace, kind, started_at)
    SELECT node_id, 'k', 'files', 'c1', 'j', 'j', gen_random_uuid(), 'v', '', '', 'job', now()
    FROM node;
    INSERT INTO price_class (type, vc) VALUES ('gpu', 'v');
    INSERT INTO meter (meter_uid, bill_id, run_id, price_class_id, node_address, device, quota,
                       group_quota, started_at, ingest_group_id)
    SELECT gen_random_uuid(), gen_random_uuid(), run_id, price_class_id, '', 'G', 1, 1, now(), 1
    FROM run, price_class
"""


def test_what_was_metered_by_the_first_version_stays(empty_database_url: str) -> None:
    """Its meters name no physical device: theirs is the one that they name."""
    first, *later = known_migrations()
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION timescaledb")
        connection.execute(query("create_schema_migration"))
        connection.execute(first.text)
        row = {"version": first.version, "name": first.name, "checksum": first.checksum}
        connection.execute(query("insert_schema_migration"), row)
        connection.execute(METERED)
    assert migrate(empty_database_url) == [each.name for each in later]
    with psycopg.connect(empty_database_url) as connection:
        found = connection.execute("SELECT device, physical FROM meter").fetchall()
    assert found == [("G", None)]


BILLED = """
    INSERT INTO bill (bill_id, run_id, cluster, node, job_id, job_name, user_id, vc, project,
        namespace, kind, type, model, quota, started_at, ended_at, allocated, used, effective,
        billed, unpriced, length_ms, observed_ms, amount, is_mixed)
    SELECT lpad(number::text, 32, '0')::uuid, number, 'c1', 'n1', job_id, job_id,
        gen_random_uuid(), 'v', 'p', '', 'job', type, model, 7, '2026-02-06', '2026-02-08',
        0, 0, 0, 0, 0, 0, 0, 0, false
    FROM (VALUES (1, 'one', 'gpu', 'A'), (2, 'one', 'cpu', NULL), (3, 'one', 'storage', NULL),
                 (4, 'two', 'gpu', 'A'), (5, 'two', 'cpu', NULL),
                 (6, 'mixed', 'gpu', 'A'), (7, 'mixed', 'npu', NULL), (8, 'mixed', 'cpu', NULL),
                 (9, 'plain', 'cpu', NULL)) AS item (number, job_id, type, model);
    INSERT INTO daily (day, bill_id, allocated, used, effective, billed, unpriced, length_ms,
        amount, peak)
    SELECT day, bill_id, 10, 20, 30, 40, 50, 60, 0.7 * run_id, 80
    FROM bill, unnest(ARRAY['2026-02-06Z', '2026-02-07Z']::timestamptz[]) AS day
    WHERE run_id <> 9
"""
CLASSED = """
    SELECT class.type, class.model, class.quota, class.gpu, min(daily_class.allocated),
        min(daily_class.amount), count(*)
    FROM item_class AS class LEFT JOIN daily_class USING (item_class_id)
    GROUP BY class.item_class_id ORDER BY class.type, class.model, class.gpu, 5
"""


def test_what_was_billed_before_is_summed_by_classes(empty_database_url: str) -> None:
    """An item is of the one model of its job, if that has one; a disk is of none."""
    known = known_migrations()
    before = [each for each in known if each.name < "0015_classes.sql"]
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION timescaledb")
        connection.execute(query("create_schema_migration"))
        for each in before:
            connection.execute(each.text)
            row = {"version": each.version, "name": each.name, "checksum": each.checksum}
            connection.execute(query("insert_schema_migration"), row)
        connection.execute(BILLED)
    assert migrate(empty_database_url) == [each.name for each in known[len(before) :]]
    with psycopg.connect(empty_database_url) as connection:
        found = [
            [each and str(each) for each in row] for row in connection.execute(CLASSED).fetchall()
        ]
        spans = connection.execute(
            "SELECT count(*), min(run_id), extract(day FROM max(last_day - first_day))::int"
            " FROM bill WHERE first_day = '2026-02-06Z'"
        ).fetchone()
    assert found == [
        ["cpu", None, 0, "A", "20", "4.9", "2"],
        ["cpu", None, 0, None, "10", "5.6", "2"],
        ["gpu", "A", "7", "A", "20", "3.5", "2"],
        ["gpu", "A", "7", None, "10", "4.2", "2"],
        ["npu", None, "7", None, "10", "4.9", "2"],
        ["storage", None, 0, None, "10", "2.1", "2"],
    ]
    assert spans == (8, 1, 1)


def test_two_at_once_do_not_disturb_each_other(empty_database_url: str) -> None:
    """One migrates, the other waits and finds nothing to do."""
    results: list[Sequence[str]] = []
    threads = [
        threading.Thread(target=lambda: results.append(migrate(empty_database_url)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(map(len, results)) == [0, len(known_migrations())]


def test_migrating_disturbs_nobody_who_reads(database_url: str) -> None:
    """Agents may stream meanwhile: nothing is locked when there is nothing to do."""
    with psycopg.connect(database_url) as connection:
        connection.execute("LOCK TABLE usage, stream IN ROW EXCLUSIVE MODE")
        assert migrate(database_url) == []


def test_a_migration_that_meets_a_deadlock_is_tried_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An aggregator at work holds one table and wants another: it is let through first."""
    known = known_migrations()
    added = Migration(
        version=len(known) + 1, name="test", text=b"LOCK TABLE usage; ALTER TABLE bill ADD x int"
    )
    monkeypatch.setattr("aggregator.store.migrate.known_migrations", lambda: [*known, added])
    with psycopg.connect(database_url) as worker, ThreadPoolExecutor() as threads:
        worker.execute("SET deadlock_timeout = '1h'")  # the migration is the one that finds out
        worker.execute("LOCK TABLE bill")
        migrated = threads.submit(migrate, database_url)
        with psycopg.connect(database_url, autocommit=True) as watch:
            while not waiting(watch):
                threading.Event().wait(0.02)
        worker.execute("LOCK TABLE usage")
        worker.commit()
        assert migrated.result() == ["test"]


@pytest.mark.parametrize("url", ["", "mysql://h/d", "foo bar", "postgresql://u:p w@h/d"])
def test_what_is_no_url_is_said_to_be_none(url: str) -> None:
    """With the form that is expected, and without a password."""
    with pytest.raises(DatabaseUrlError, match=r"postgresql://user:password@host:port/database"):
        migrate(url or "=")


def test_a_server_that_is_not_there_is_unreachable() -> None:
    """The address is named, the password is not."""
    url = "postgresql://u:secret@127.0.0.1:1/d"
    with pytest.raises(DatabaseUnreachableError, match=r"127\.0\.0\.1:1") as caught:
        migrate(url)
    assert "secret" not in str(caught.value)


def test_a_wrong_password_is_said_to_be_wrong(database_url: str) -> None:
    """And not shown."""
    scheme, _, rest = database_url.partition("//nodemeter:")
    wrong = f"{scheme}//nodemeter:wrong-secret@{rest.partition('@')[2]}"
    with pytest.raises(DatabaseAuthError, match="refused the login") as caught:
        migrate(wrong)
    assert "wrong-secret" not in str(caught.value)


def test_a_database_that_does_not_exist_is_named(timescaledb: Server) -> None:
    """With the way to make it."""
    with pytest.raises(DatabaseMissingError, match="createdb"):
        migrate(timescaledb.url_of("nowhere"))


def test_a_database_in_another_encoding_is_refused(timescaledb: Server) -> None:
    """Names of jobs can hold any character."""
    postgres = timescaledb.url_of("postgres")
    execute(postgres, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(DatabaseEncodingError, match="LATIN1"):
            migrate(timescaledb.url_of("latin"))
    finally:
        execute(postgres, "DROP DATABASE latin")


def test_a_role_that_may_not_create_the_extension_is_told_so(
    timescaledb: Server, empty_database_url: str
) -> None:
    """And what a superuser has to do."""
    execute(empty_database_url, "CREATE ROLE small LOGIN PASSWORD 'small'")
    try:
        login, _, rest = empty_database_url.partition("@")
        url = f"{login.split('//')[0]}//small:small@{rest}"
        with pytest.raises(TimescalePrivilegeError, match="CREATE EXTENSION timescaledb"):
            migrate(url)
    finally:
        execute(timescaledb.url_of("postgres"), "DROP ROLE small")


def test_a_server_without_timescaledb_is_told_where_to_get_it(empty_database_url: str) -> None:
    """By the three ways there are.

    A second server would cost half a minute; a view that hides the extension is as good.
    """
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(
            """
            CREATE SCHEMA lacking;
            CREATE VIEW lacking.pg_available_extensions AS
                SELECT * FROM pg_catalog.pg_available_extensions WHERE name <> 'timescaledb'
            """
        )
        name = connection.info.dbname
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET search_path = lacking, pg_catalog").format(
                sql.Identifier(name)
            )
        )
    with pytest.raises(TimescaleMissingError) as caught:
        migrate(empty_database_url)
    for way in ("apt install postgresql-17-timescaledb", "docker run", 'url = "embedded"'):
        assert way in str(caught.value)


def test_a_server_that_did_not_load_timescaledb_is_told_the_setting(software_dir: Path) -> None:
    """The extension is there, and creating it ends the session."""
    folder = Path(tempfile.mkdtemp(prefix="nodemeter-test-"))
    folder.chmod(0o755)
    try:
        settings = {"shared_preload_libraries": "", "fsync": "off"}
        with (
            ensure_server(folder, settings=settings, software_dirs=[software_dir]) as server,
            pytest.raises(TimescaleNotPreloadedError, match="shared_preload_libraries"),
        ):
            migrate(server.url)
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("version", ["2.25.0", "2.25.2", "2.26.0", "2.26.1", "2.12.2", "1.7.5"])
def test_versions_known_to_be_wrong_are_refused(version: str) -> None:
    """By their number."""
    with pytest.raises(TimescaleVersionError, match=version):
        check_timescale_version(version)


@pytest.mark.parametrize("version", ["2.13.0", "2.19.3", "2.24.9", "2.26.2", "3.0.0", "2.20.0-dev"])
def test_other_versions_are_taken(version: str) -> None:
    """Older ones down to what we use, newer ones as they come."""
    check_timescale_version(version)


def test_a_database_that_is_newer_than_the_software_is_left_alone(database_url: str) -> None:
    """Whatever a newer nodemeter did there."""
    execute(
        database_url,
        "INSERT INTO schema_migration (version, name, checksum) VALUES (9999, 'later', '')",
    )
    with pytest.raises(SchemaNewerError, match="9999"):
        migrate(database_url)


def test_a_migration_that_is_not_ours_is_noticed(database_url: str) -> None:
    """The database belongs to another build."""
    execute(database_url, "UPDATE schema_migration SET checksum = 'other'")
    with pytest.raises(SchemaChangedError, match=r"0001_initial\.sql"):
        migrate(database_url)


def test_a_migration_that_fails_leaves_nothing(empty_database_url: str) -> None:
    """One transaction each: it can be tried again when the reason is gone."""
    execute(empty_database_url, "CREATE TABLE bill ()")
    with pytest.raises(MigrationFailedError, match=r"0001_initial\.sql.*bill"):
        migrate(empty_database_url)
    execute(empty_database_url, "DROP TABLE bill")
    assert migrate(empty_database_url) == [each.name for each in known_migrations()]
