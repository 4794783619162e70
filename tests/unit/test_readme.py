"""What the README shows is taken as it stands there."""

import re
from pathlib import Path

import pytest

from agent.errors import JobFileError
from agent.jobs.jobfile import Owner, parse_job
from aggregator.settings import load_settings

README = (Path(__file__).parents[2] / "README.md").read_text()
ROOT = Owner(0, "root", is_trusted=True)


def block(language: str) -> str:
    """The only example in that language."""
    (text,) = re.findall(rf"(?ms)^```{language}\n(.*?)^```", README)
    return str(text)


def test_the_job_file_is_one() -> None:
    """With devices."""
    run = parse_job(block("json").encode(), ROOT)
    assert [device.id for device in run.devices] == ["0", "1"]


def test_every_key_of_a_job_file_is_explained() -> None:
    """The table names those that are known, and no other."""
    with pytest.raises(JobFileError) as caught:
        parse_job(b'{"nonsense": 1}', ROOT)
    known = re.search(r"known are (.*)", str(caught.value))
    assert known is not None
    rows = README.split("| key | what |\n|---|---|\n")[1].split("\n\n")[0].splitlines()
    explained = [key for row in rows for key in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(explained) == sorted(known[1].split(", "))


def test_the_aggregators_configuration_is_one(tmp_path: Path) -> None:
    """With TLS it may listen on every address."""
    config = tmp_path / "aggregator.toml"
    config.write_text(block("toml"))
    settings = load_settings(config, {})
    assert settings.grpc.host == "0.0.0.0"
    assert f"--aggregator meter.example.org:{settings.grpc.enroll_port} --token" in README
