"""A session as a service has it."""

from collections.abc import Generator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from aggregator.store.embedded import Server
from aggregator.store.grants import Role
from aggregator.store.pool import connect


@contextmanager
def acting(server: Server, url: str, role: Role) -> Generator[psycopg.Connection[TupleRow]]:
    """In the role of a service, on the database that `url` names."""
    with connect(server.service_url_of(str(conninfo_to_dict(url)["dbname"])), role) as connection:
        yield connection
