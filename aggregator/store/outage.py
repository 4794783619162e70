"""What a failure of the database means, and saying so once for as long as it lasts."""

import logging

import psycopg
from psycopg.errors import InsufficientPrivilege, InternalError_

from aggregator.errors import DatabaseError, GrantsMissingError, SchemaMissingError
from aggregator.store.pool import SCHEMA_GONE


def meaning(error: psycopg.Error) -> DatabaseError:
    """The failure in our terms, for those who are told of it."""
    if isinstance(error, SCHEMA_GONE):
        return SchemaMissingError()
    if isinstance(error, InsufficientPrivilege):
        return GrantsMissingError(error.diag.message_primary or "no words")
    return DatabaseError("the database does not answer")


class Outage:
    """Logs that a part of us cannot use the database: once for each reason, and its end."""

    def __init__(self, logger: logging.Logger, message: str, action: str) -> None:
        """Log as that part, in those words."""
        self._logger = logger
        self._message = message
        self._action = action
        self._reasons: set[type[Exception]] = set()

    def begin(self, error: Exception) -> None:
        """It failed, for the first time or again."""
        known = meaning(error) if isinstance(error, psycopg.Error) else error
        reason = known if isinstance(known, SchemaMissingError) else error
        if type(reason) in self._reasons or self._is_aftermath(error):
            return
        self._reasons.add(type(reason))
        self._logger.error(
            self._message, extra={"action": self._action, "error": str(reason) or repr(reason)}
        )

    def _is_aftermath(self, error: Exception) -> bool:
        """Whether this is a session that knew a schema since dropped (see `pool`)."""
        return SchemaMissingError in self._reasons and isinstance(error, InternalError_)

    def end(self) -> None:
        """It worked."""
        if self._reasons:
            self._reasons.clear()
            self._logger.info("the database serves again", extra={"action": self._action})
