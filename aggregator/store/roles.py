"""Brings the services' roles and rights to what `grants` declares.

What is so already is not touched, so nobody is locked out and nothing waits while
aggregators run. What the login may not do is said as the statements that somebody else has
to run. Roles belong to the whole cluster: another database's migration may make them at the
same time.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from psycopg import Connection, errors
from psycopg.rows import TupleRow

from aggregator.errors import RolesMissingError, SchemaIncompleteError
from aggregator.store.grants import Role, wanted
from aggregator.store.queries import query

_LIST_ROLE_STATEMENTS = query("list_role_statements")
_LIST_GRANT_STATEMENTS = query("list_grant_statements")
_LIST_MISSING_OBJECTS = query("list_missing_objects")

_LOGGER: Final = logging.getLogger(__name__)
_ROUNDS: Final = 4
"""A surplus right on a table takes those on its columns along; roles may be made by two."""


def settle_roles(connection: Connection[TupleRow], url: str, login: str | None) -> None:
    """Make the roles, and `login` (None: who is connected) a member of each.

    Raises `RolesMissingError`.
    """
    parameters = {"service_roles": list(Role), "login": login}

    def missing() -> Sequence[str]:
        rows = connection.execute(_LIST_ROLE_STATEMENTS, parameters).fetchall()
        return [str(statement) for (statement,) in rows]

    left = _settle(connection, missing)
    if left:
        raise RolesMissingError(url, left)


def settle_grants(connection: Connection[TupleRow], url: str) -> None:
    """Give the roles what is declared, and take from them and from PUBLIC what is not.

    Raises `SchemaIncompleteError` or `RolesMissingError`. What only another one may take
    away is logged.
    """
    lacking = connection.execute(_LIST_MISSING_OBJECTS, wanted()).fetchall()
    if lacking:
        raise SchemaIncompleteError([str(name) for (name,) in lacking])
    with connection.transaction():
        _settle(connection, lambda: [statement for statement, _ in _differences(connection)])
    left = _differences(connection)
    if any(is_needed for _, is_needed in left):
        raise RolesMissingError(url, [statement for statement, _ in left])
    if left:
        _LOGGER.warning(
            "the database allows more than it should; a superuser can run these statements",
            extra={"action": "grant", "statements": "; ".join(each for each, _ in left)},
        )


def _differences(connection: Connection[TupleRow]) -> Sequence[tuple[str, bool]]:
    rows = connection.execute(_LIST_GRANT_STATEMENTS, wanted()).fetchall()
    return [(str(statement), bool(is_needed)) for statement, is_needed in rows]


def _settle(
    connection: Connection[TupleRow], differences: Callable[[], Sequence[str]]
) -> Sequence[str]:
    """Run the statements until there are none; give those that are left."""
    for _ in range(_ROUNDS):
        statements = differences()
        if not statements:
            return []
        for statement in statements:
            with suppress(
                errors.InsufficientPrivilege,
                errors.UndefinedObject,  # a role that could not be made
                errors.DuplicateObject,
                errors.UniqueViolation,
                errors.InternalError_,  # "tuple concurrently updated": another one's grant
            ):
                _run(connection, statement)
    return differences()


def _run(connection: Connection[TupleRow], statement: str) -> None:
    with connection.transaction():
        connection.execute(statement.encode())
