"""Connections are ours to the setting, or the reason why there are none is said at once."""

import socket

import pytest

from aggregator.errors import DatabaseUnreachableError
from aggregator.store.pool import open_pool


async def test_sessions_are_in_utc_without_jit(database_url: str) -> None:
    """Whatever the server's own settings."""
    pool = await open_pool(database_url)
    try:
        async with pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT current_setting('timezone'), current_setting('jit'),"
                " current_setting('application_name')"
            )
            assert await cursor.fetchone() == ("UTC", "off", "nodemeter-aggregator")
    finally:
        await pool.close()


async def test_the_urls_own_options_are_kept(database_url: str) -> None:
    """Ours are added to them."""
    pool = await open_pool(database_url + "&options=-c%20work_mem%3D5MB&application_name=mine")
    try:
        async with pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT current_setting('work_mem'), current_setting('timezone'),"
                " current_setting('application_name')"
            )
            assert await cursor.fetchone() == ("5MB", "UTC", "mine")
    finally:
        await pool.close()


async def test_a_pool_that_cannot_be_had_says_so_at_once() -> None:
    """Not after the pool's own patience."""
    with pytest.raises(DatabaseUnreachableError, match="refused"):
        await open_pool("postgresql://u:secret@127.0.0.1:1/d")


async def test_a_server_that_does_not_answer_is_unreachable() -> None:
    """In the time that the URL allows."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        port = deaf.getsockname()[1]
        with pytest.raises(DatabaseUnreachableError, match="no answer in time"):
            await open_pool(f"postgresql://u@127.0.0.1:{port}/d?connect_timeout=2")
