"""A start bears with a slow database, and with nothing else."""

import asyncio
from collections.abc import Callable, Sequence

import psycopg
import pytest
from psycopg import errors
from psycopg_pool import PoolTimeout

from aggregator.errors import DatabaseAuthError, DatabaseError, DatabaseUnreachableError
from aggregator.store.patience import is_slowness, patiently, waiting

URL = "postgresql://u:secret@db/d"


def caused_by(cause: Exception, made: DatabaseError) -> DatabaseError:
    """As `pool` translates what psycopg says."""
    made.__cause__ = cause
    return made


SLOW: Sequence[Exception] = [
    caused_by(errors.ConnectionTimeout("timeout"), DatabaseUnreachableError(URL, "no answer")),
    caused_by(
        psycopg.OperationalError("FATAL: the database system is starting up"),
        DatabaseUnreachableError(URL, "starting"),
    ),
    errors.ObjectInUse("is being accessed by other users"),
    errors.DeadlockDetected("deadlock"),
    PoolTimeout("30 s"),
]
OTHERS: Sequence[Exception] = [
    caused_by(psycopg.OperationalError("refused"), DatabaseUnreachableError(URL, "refused")),
    caused_by(psycopg.OperationalError("password"), DatabaseAuthError(URL, "password")),
    errors.InsufficientPrivilege("permission denied"),
]


def failing(*failures: Exception) -> Callable[[], int]:
    """Fail so, one after the other; then 7."""
    left = list(failures)

    def attempt() -> int:
        if left:
            raise left.pop(0)
        return 7

    return attempt


@pytest.mark.parametrize("error", SLOW)
def test_slowness_is_borne(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Said once."""
    assert is_slowness(error)
    assert patiently(failing(error, error), pause_seconds=0) == 7
    assert [vars(each)["action"] for each in caplog.records] == ["wait"]


@pytest.mark.parametrize("error", OTHERS)
def test_what_does_not_pass_is_not_borne(error: Exception) -> None:
    """It is what the operator has to hear."""
    with pytest.raises(type(error)):
        patiently(failing(error))


def test_patience_ends_with_a_message() -> None:
    """Not with a traceback."""
    with pytest.raises(DatabaseError, match="the database is too slow: deadlock"):
        patiently(failing(*[errors.DeadlockDetected("deadlock")] * 3), seconds=0)


async def test_who_is_to_stop_does_not_wait() -> None:
    """A SIGTERM comes while it is slow."""
    stop = asyncio.Event()
    stop.set()

    async def attempt() -> int:
        raise PoolTimeout("30 s")

    with pytest.raises(DatabaseError, match="too slow: 30 s"):
        await waiting(attempt, stop)
