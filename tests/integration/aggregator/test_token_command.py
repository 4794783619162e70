"""The first token: made on the host itself, by who may read its configuration."""

import os
import subprocess
import sys

import pytest

from aggregator.settings import HttpSettings
from aggregator.store.embedded import Server, running_url
from aggregator.store.pool import Pool
from tests.integration.aggregator.api.client import served

COMMAND = [sys.executable, "-m", "aggregator", "token", "create"]


@pytest.fixture
def environ(service_url: str) -> dict[str, str]:
    """Of an aggregator on the test's database, of which nobody else's settings tell."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NODEMETER_")}
    own = {"NODEMETER_DATABASE_URL": service_url, "NODEMETER_AGGREGATOR_CONFIG": os.devnull}
    return kept | own | {"NODEMETER_HTTP_OPEN_TO": ""}


def call(environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """The command as an administrator types it."""
    return subprocess.run(
        [*COMMAND, *words], env=environ, capture_output=True, text=True, check=False, timeout=100
    )


async def test_an_administrators_token_lets_in_where_nobody_else_is(
    environ: dict[str, str], api_pool: Pool
) -> None:
    """The secret alone on standard output, for a script to keep."""
    made = call(environ, "--name", "root", "--role", "admin", "--days", "7")
    assert made.returncode == 0, made.stderr
    assert "root (admin), valid until" in made.stderr
    async with served(api_pool, HttpSettings(open_to=())) as api:
        headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
        listed = await api.ask("GET", "/api/admin/v1/tokens", headers=headers)
        assert (listed.status, listed.json()[0]["name"]) == (200, "root")
        assert listed.json()[0]["createdBy"].endswith(" on the aggregator's host")
    again = call(environ, "--name", "root")
    assert (again.returncode, again.stdout) == (1, "")
    assert "choose another --name" in again.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--name", "a\nb"], "--name: must not hold control characters"),
        (["--name", "a", "--vc", "v"], "--vc: goes with the role viewer only"),
        (["--name", "a", "--days", "0"], "invalid choice"),
        (["--name", "a", "--user", "alice"], "invalid UUID"),
        ([], "--name"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(
    environ: dict[str, str], words: list[str], said: str
) -> None:
    """Nothing on standard output."""
    done = call(environ, *words)
    assert done.returncode in {1, 2}
    assert done.stdout == ""
    assert said in done.stderr


def test_a_running_embedded_database_is_used_as_it_runs(timescaledb: Server) -> None:
    """It belongs to another process, which goes on; where none runs there is none."""
    state_dir = timescaledb.cluster.folder.parent
    assert running_url(state_dir) == timescaledb.url
    assert running_url(state_dir / "elsewhere") is None
