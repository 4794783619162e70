"""An aggregator process of a test or benchmark, on a database that it is given."""

import os
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.acceptance.product import BIN, Client, clean_environment, free_port, until


@dataclass(kw_only=True)
class Service(Client):
    """A running aggregator."""

    database_url: str
    pid: int = 0

    def declare_in_the_past(self, prices: Mapping[str, str]) -> None:
        """Put prices in force for all time: usage of a minute ago is then priced at once."""
        with psycopg.connect(self.database_url) as connection:
            for key, value in prices.items():
                connection.execute(
                    "INSERT INTO ratio (key, type, value, starts_at, created_at, created_by)"
                    " VALUES (%(key)s, %(key)s, %(value)s, '-infinity', now(), 'test')",
                    {"key": key, "value": value},
                )


@contextmanager
def serving(database_url: str, log: Path, *, is_rating: bool) -> Generator[Service]:
    """An aggregator process; without rating, what it takes in stays to be rated."""
    http_port, grpc_port = free_port(), free_port()
    env = clean_environment() | {
        "NODEMETER_DATABASE_URL": database_url,
        "NODEMETER_HTTP_PORT": str(http_port),
        "NODEMETER_GRPC_PORT": str(grpc_port),
        "NODEMETER_RATER_INTERVAL_SECONDS": "1" if is_rating else "3600",
        "NODEMETER_AGGREGATOR_CONFIG": os.devnull,
    }
    service = Service(http_port=http_port, grpc_port=grpc_port, env=env, database_url=database_url)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(BIN / "nodemeter-aggregator"), "serve"], env=env, stdout=output, stderr=output
        )
    service.pid = process.pid
    try:
        until(f"the aggregator, see {log}", service.is_ready, seconds=60)
        yield service
    finally:
        process.terminate()
        process.wait(timeout=60)
