"""Claims about calls: where the aggregator is looked for, and where options may stand."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group
from typer.testing import CliRunner

from aggregator.admin.__main__ import app, forwarded
from aggregator.admin.address import DEFAULT_URL, config_files, default_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("[http]\nport = 9000\n", "http://127.0.0.1:9000"),
        ('[http]\nhost = "0.0.0.0"\n', "http://127.0.0.1:8080"),
        ('[http]\nhost = "::1"\nport = 1\n', "http://[::1]:1"),
        ('[http]\nhost = "::"\n', "http://[::1]:8080"),
        ('[http]\nhost = "billing"\n', "http://billing:8080"),
        ("", DEFAULT_URL),
        ("[http\n", DEFAULT_URL),
        ('[http]\nport = "x"\n', DEFAULT_URL),
        ("http = 3\n", DEFAULT_URL),
        (f"a = {'[' * 5000}", DEFAULT_URL),
    ],
)
def test_the_url_is_that_of_the_configuration(tmp_path: Path, text: str, url: str) -> None:
    """Where this machine's aggregator listens; a file that cannot be read says nothing."""
    file = tmp_path / "aggregator.toml"
    file.write_text(text)
    assert default_url([tmp_path / "missing.toml", file]) == url


def test_the_configuration_of_the_environment_comes_first() -> None:
    """`make run` writes it there."""
    assert config_files({})[0] == Path(sys.prefix) / "etc/nodemeter/aggregator.toml"
    named = {"NODEMETER_STATE_DIR": "/run/mine"}
    assert config_files(named)[0] == Path("/run/mine/aggregator.toml")
    assert default_url([]) == DEFAULT_URL


def commands(found: object, call: str = "nodemeter") -> Iterator[str]:
    """Every call that does something."""
    assert isinstance(found, TyperCommand | TyperGroup)
    if found.epilog or isinstance(found, TyperCommand):
        yield call
    if isinstance(found, TyperGroup):
        for name, part in found.commands.items():
            yield from commands(part, f"{call} {name}")


@pytest.mark.parametrize("call", list(commands(get_group(app))))
def test_every_command_helps_with_examples(call: str) -> None:
    """Calls of its own, that begin as it does, whatever is added."""
    done = CliRunner().invoke(app, [*call.split()[1:], "--help"])
    assert done.exit_code == 0
    assert f"Examples:\n    {call}" in done.output


def test_all_commands_are_known_to_the_test() -> None:
    """Some of each kind at least."""
    found = set(commands(get_group(app)))
    assert {"nodemeter", "nodemeter bills explain", "nodemeter quote", "nodemeter rerates"} < found
    assert len(found) >= 35


@pytest.mark.parametrize(
    ("given", "forwards"),
    [
        ("ratios list", "ratios list"),
        ("ratios list --output json", "--output json ratios list"),
        ("bills --url=http://a --type cpu --token t", "--url=http://a --token t bills --type cpu"),
        ("ratios set -- --output 1", "ratios set -- --output 1"),
        ("bills --url", "--url bills"),
    ],
)
def test_three_options_may_stand_anywhere(given: str, forwards: str) -> None:
    """Up to `--`."""
    assert forwarded(given.split()) == forwards.split()


def test_the_command_needs_nothing_of_the_server() -> None:
    """The extra `admin` alone is enough, and it starts fast."""
    code = "import sys, aggregator.admin.__main__; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert not {"aiohttp", "psycopg", "pydantic", "grpc", "numpy"} & set(loaded)
    assert "typer" in loaded
