"""Waiting for the database to be waited for."""

import asyncio

from tests.integration.aggregator.rows import Rows


async def until_waiting(rows: Rows, count: int) -> None:
    """Return when that many sessions of this database wait for a lock."""
    waiting = """SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'"""
    for _ in range(1000):
        rows.connection.execute("SELECT pg_stat_clear_snapshot()")
        if rows.connection.execute(waiting).fetchone() == (count,):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"never were {count} sessions waiting")
