"""Sees which sessions of a database wait for a lock, and ends them, from another one."""

import psycopg
from psycopg.rows import TupleRow


def waiting(database: psycopg.Connection[TupleRow]) -> int:
    """How many sessions of this database wait for a lock now."""
    return _count(database, b"SELECT count(*)")


def kill_waiting(database: psycopg.Connection[TupleRow]) -> int:
    """End the sessions that wait for a lock, as a crash of theirs would; how many."""
    return _count(database, b"SELECT count(pg_terminate_backend(pid))")


def _count(database: psycopg.Connection[TupleRow], head: bytes) -> int:
    database.execute("SELECT pg_stat_clear_snapshot()")  # else one look lasts a transaction
    row = database.execute(
        head
        + b" FROM pg_stat_activity"
        + b" WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchone()
    assert row is not None
    return int(row[0])
