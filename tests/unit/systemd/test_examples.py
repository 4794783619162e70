import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from agent.settings import load_settings as load_agent_settings
from aggregator.settings import HttpSettings, Settings, load_settings

SYSTEMD = Path(__file__).resolve().parents[3] / "systemd"

Sections = dict[str, set[str]]

INSTALLED = Settings(http=HttpSettings(open_to=()))
"""On a host that others use, too, loopback is everybody: nobody is let in without a token."""


def example(part: str) -> str:
    return (SYSTEMD / f"{part}.toml").read_text()


def uncommented(part: str) -> str:
    """The example with every default switched on."""
    return re.sub(r"(?m)^# (\w+ = )", r"\1", example(part))


def keys_of(document: str) -> Sections:
    sections: dict[str, dict[str, object]] = tomllib.loads(document)
    return {section: set(table) for section, table in sections.items()}


def agents_keys() -> Sections:
    settings = dataclasses.asdict(load_agent_settings("/dev/null", {}))
    sections: dict[str, dict[str, object]] = {**settings}
    del sections["source"], sections["root"]
    return {name: set(table) for name, table in sections.items()}


def aggregators_keys() -> Sections:
    sections: dict[str, dict[str, object]] = Settings().model_dump()
    return {name: set(table) for name, table in sections.items()}


@pytest.mark.parametrize(
    ("part", "known"), [("agent", agents_keys()), ("aggregator", aggregators_keys())]
)
def test_the_example_shows_every_key_and_no_other(part: str, known: Sections) -> None:
    """A key that was added, renamed or dropped shows here."""
    assert keys_of(uncommented(part)) == known


def test_the_agents_example_states_its_defaults(tmp_path: Path) -> None:
    """What is commented out is what holds anyway."""
    path = tmp_path / "agent.toml"
    path.write_text(re.sub(r'(?m)^name = ""', "", uncommented("agent")))
    said = dataclasses.replace(load_agent_settings(str(path), {}), source="")
    assert said == dataclasses.replace(load_agent_settings("/dev/null", {}), source="")


def test_the_aggregators_example_states_its_defaults(tmp_path: Path) -> None:
    """What is commented out is what holds anyway."""
    path = tmp_path / "aggregator.toml"
    path.write_text(uncommented("aggregator"))
    assert load_settings(path, {}) == INSTALLED


@pytest.mark.parametrize("part", ["agent", "aggregator"])
def test_an_untouched_example_is_a_valid_configuration(part: str, tmp_path: Path) -> None:
    """It is installed as it is."""
    path = tmp_path / "as-installed.toml"
    path.write_text(example(part))
    if part == "agent":
        load_agent_settings(str(path), {})
    else:
        assert load_settings(path, {}) == INSTALLED
