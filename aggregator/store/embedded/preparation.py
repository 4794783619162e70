"""Makes what a server must have before anybody uses it: the database, and the services' login."""

from contextlib import suppress

import psycopg
from psycopg import sql

from aggregator.store.embedded.cluster import DATABASE, SERVICE_LOGIN


def prepare_database(maintenance_url: str, url: str) -> None:
    """Make the product's database; one that is there follows the packages' version."""
    with psycopg.connect(maintenance_url, autocommit=True) as connection:
        is_there = "SELECT FROM pg_database WHERE datname = %s"
        if connection.execute(is_there, [DATABASE]).fetchone() is None:
            # Not of template1: a worker of TimescaleDB looks into each database that lets it,
            # and as long as it does on a busy machine there is no copying it.
            create = sql.SQL("CREATE DATABASE {} TEMPLATE template0")
            connection.execute(create.format(sql.Identifier(DATABASE)))
            return
    # The first command after newer packages; there is nothing to update before a migration.
    missing = suppress(psycopg.errors.UndefinedObject)
    with psycopg.connect(url, autocommit=True) as connection, missing:
        connection.execute("ALTER EXTENSION timescaledb UPDATE")


def prepare_login(maintenance_url: str, password: str) -> None:
    """Let the services log in with this password: also to data that was made before they did."""
    name = sql.Identifier(SERVICE_LOGIN)
    with psycopg.connect(maintenance_url, autocommit=True) as connection:
        is_there = "SELECT FROM pg_roles WHERE rolname = %s"
        if connection.execute(is_there, [SERVICE_LOGIN]).fetchone() is None:
            connection.execute(sql.SQL("CREATE ROLE {}").format(name))
        # A verifier: should this statement be logged, no password is.
        hashed = connection.pgconn.encrypt_password(
            password.encode(), SERVICE_LOGIN.encode(), b"scram-sha-256"
        )
        alter = sql.SQL("ALTER ROLE {} LOGIN NOINHERIT PASSWORD {}")
        connection.execute(alter.format(name, sql.Literal(hashed.decode())))
