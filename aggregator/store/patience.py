"""Bears with a database that is slow, for as long as a start may take.

On a busy machine a connection is not made in time, a database that is to be copied is still
looked at by a worker of the server, a lock is not had: none of that is a reason to end. All
else is, at once: a wrong password does not become right.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import psycopg
from psycopg import errors
from psycopg_pool import PoolTimeout

from aggregator.clock import monotonic
from aggregator.errors import DatabaseError

_SECONDS: Final = 300.0
_PAUSE_SECONDS: Final = 1.0
_SLOW: Final = (
    errors.ConnectionTimeout,
    errors.CannotConnectNow,
    errors.DeadlockDetected,
    errors.LockNotAvailable,
    errors.ObjectInUse,
    errors.TooManyConnections,
    PoolTimeout,
)
_WORDS: Final = ("is starting up", "not yet accepting connections", "too many clients")
"""Of a login that fails libpq gives no code."""

_LOGGER: Final = logging.getLogger(__name__)
_Result = TypeVar("_Result")


def patiently(
    attempt: Callable[[], _Result],
    *,
    seconds: float = _SECONDS,
    pause_seconds: float = _PAUSE_SECONDS,
) -> _Result:
    """Try again while it fails for slowness alone.

    Raises what it fails with otherwise, and a `DatabaseError` when the time is over.
    """
    patience = _Patience(seconds)
    while True:
        try:
            return attempt()
        except (DatabaseError, psycopg.Error) as error:
            patience.bear(error)
        time.sleep(pause_seconds)


async def waiting(
    attempt: Callable[[], Awaitable[_Result]], stop: asyncio.Event, *, seconds: float = _SECONDS
) -> _Result:
    """Do as `patiently` does, until `stop` is set."""
    patience = _Patience(seconds)
    while True:
        try:
            return await attempt()
        except (DatabaseError, psycopg.Error) as error:
            patience.bear(error)
            if stop.is_set():
                raise error if isinstance(error, DatabaseError) else _too_slow(error)  # noqa: B904
        await asyncio.sleep(_PAUSE_SECONDS)


def is_slowness(error: BaseException) -> bool:
    """Whether it may well work when it is tried again."""
    cause = error.__cause__ if isinstance(error, DatabaseError) else error
    return isinstance(cause, _SLOW) or any(words in str(cause) for words in _WORDS)


class _Patience:
    def __init__(self, seconds: float) -> None:
        self._ends_at = monotonic() + seconds
        self._is_told = False

    def bear(self, error: DatabaseError | psycopg.Error) -> None:
        """Let it pass, or raise it."""
        if not is_slowness(error):
            raise error
        if monotonic() >= self._ends_at:
            raise error if isinstance(error, DatabaseError) else _too_slow(error)
        if not self._is_told:
            self._is_told = True
            _LOGGER.warning(
                "the database is slow; trying again",
                extra={"action": "wait", "error": " ".join(str(error).split())},
            )


def _too_slow(error: psycopg.Error) -> DatabaseError:
    made = DatabaseError(f"the database is too slow: {' '.join(str(error).split())}")
    made.__cause__ = error
    return made
