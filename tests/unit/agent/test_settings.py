"""The agent's settings: one report for every fault, and nothing silently ignored."""

import os
import sys
from pathlib import Path

import pytest

from agent.config import Reader, find_config
from agent.errors import SettingsError
from agent.jobs import PROVIDERS
from agent.settings import DEFAULT_PROVIDERS, PROVIDER_NAMES, AgentSettings, load_settings


def load(tmp_path: Path, text: str, **environ: str) -> AgentSettings:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return load_settings(str(path), environ)


def problems(tmp_path: Path, text: str, **environ: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, **environ)
    return caught.value.problems


def test_an_empty_file_gives_the_documented_defaults(tmp_path: Path) -> None:
    """Every key has a default, and it is the contract's."""
    settings = load(tmp_path, "")
    assert settings.node.name == os.uname().nodename
    assert settings.node.cluster == "default"
    assert settings.node.address is None
    assert settings.agent.state_dir == Path("/var/lib/nodemeter-agent")
    assert settings.agent.sample_interval_seconds == 10
    assert settings.agent.max_hold_seconds == 60
    assert settings.uplink.target == "127.0.0.1:50051"
    assert settings.jobs.dir == Path("/run/nodemeter/jobs.d")
    assert settings.jobs.providers == DEFAULT_PROVIDERS
    assert settings.cgroup.root == Path("/sys/fs/cgroup")
    assert settings.spool.retention_hours == 24
    assert settings.log.level == "info"


def test_a_file_sets_and_the_environment_overrides(tmp_path: Path) -> None:
    """NODEMETER_<SECTION>_<KEY> wins over the file, key by key and in every type."""
    settings = load(
        tmp_path,
        '[node]\nname = "n1"\ncluster = "c1"\n[agent]\nsample_interval_seconds = 5\n',
        NODEMETER_NODE_NAME="n2",
        NODEMETER_AGENT_MAX_HOLD_SECONDS="30",
        NODEMETER_JOBS_PROVIDERS=" files ",
        NODEMETER_NODE_ADDRESS="fd00::1",
    )
    assert (settings.node.name, settings.node.cluster) == ("n2", "c1")
    assert settings.agent.sample_interval_seconds == 5
    assert settings.agent.max_hold_seconds == 30
    assert settings.jobs.providers == ("files",)
    assert settings.node.address == "fd00::1"


def test_an_unknown_key_is_an_error_that_lists_the_known_ones(tmp_path: Path) -> None:
    """A misspelt key names its nearest neighbour and all that exist."""
    (problem,) = problems(tmp_path, "[agent]\nsample_interval = 5\n")
    assert problem.startswith("[agent] sample_interval: unknown key")
    assert "did you mean sample_interval_seconds?" in problem
    for known in ("sample_interval_seconds", "max_hold_seconds", "state_dir"):
        assert known in problem


def test_an_unknown_section_and_a_stray_key_are_errors(tmp_path: Path) -> None:
    """Nothing in the file is passed over in silence."""
    stray, section = problems(tmp_path, 'name = "n1"\n[nodes]\nname = "n1"\n')
    assert stray == "name: a key outside any section"
    assert section.startswith("[nodes]: unknown section; did you mean node?")


def test_an_unknown_variable_of_a_known_section_is_an_error(tmp_path: Path) -> None:
    """The environment is held to the same rule as the file."""
    (problem,) = problems(tmp_path, "", NODEMETER_NODE_NAM="x")
    assert problem.startswith("NODEMETER_NODE_NAM: unknown variable")
    assert "NODEMETER_NODE_NAME" in problem


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("NODEMETER_UPLNK_TARGET", "NODEMETER_UPLINK_TARGET"),
        ("NODEMETER_HTP_PORT", "NODEMETER_HTTP_PORT"),
        ("NODEMETER_STATEDIR", "NODEMETER_STATE_DIR"),
    ],
)
def test_a_variable_of_no_section_is_an_error(tmp_path: Path, name: str, nearest: str) -> None:
    """It names the nearest, of our sections and of the aggregator's."""
    (problem,) = problems(tmp_path, "", **{name: "x"})
    assert problem.startswith(f"{name}: unknown variable; did you mean {nearest}? ")


def test_a_service_called_nodemeter_does_not_stop_its_pods(tmp_path: Path) -> None:
    """Kubernetes sets these for every service of the namespace."""
    load(
        tmp_path,
        "",
        NODEMETER_SERVICE_HOST="10.0.0.1",
        NODEMETER_SERVICE_PORT_HTTP="8080",
        NODEMETER_PORT="tcp://10.0.0.1:8080",
        NODEMETER_AGENT_PORT="tcp://10.0.0.1:8080",
        NODEMETER_PORT_8080_TCP_PROTO="tcp",
    )


def test_the_variables_of_make_run_and_of_the_aggregator_are_not_ours(tmp_path: Path) -> None:
    """Contract names that other programs read are neither refused nor misread."""
    settings = load(
        tmp_path,
        "",
        NODEMETER_HTTP_PORT="8081",
        NODEMETER_GRPC_PORT="50052",
        NODEMETER_STATE_DIR="/tmp/x",
        NODEMETER_DATABASE_URL="postgresql://x",
        NODEMETER_AGENT_CONFIG="/somewhere/else",
    )
    assert settings.agent.state_dir == Path("/var/lib/nodemeter-agent")


def test_all_faults_come_in_one_report(tmp_path: Path) -> None:
    """One run of check-config shows everything there is to repair."""
    found = problems(
        tmp_path,
        '[node]\naddress = "host"\nname = ""\n'
        "[agent]\nsample_interval_seconds = 0\nmax_hold_seconds = true\n"
        'state_dir = "var"\n'
        '[uplink]\ntarget = "nowhere"\n'
        '[jobs]\ndir = 3\nproviders = ["files", "slurmm"]\n'
        '[log]\nlevel = "loud"\n'
        '[spool]\nsegment_bytes = "8M"\nretention_hour = 1\n',
    )
    assert {problem.partition(":")[0] for problem in found} == {
        "[node] name",
        "[node] address",
        "[agent] sample_interval_seconds",
        "[agent] max_hold_seconds",
        "[agent] state_dir",
        "[uplink] target",
        "[jobs] providers",
        "[jobs] dir",
        "[spool] segment_bytes",
        "[log] level",
        "[spool] retention_hour",
    }
    assert len(found) == 11


def test_the_hold_must_reach_to_the_next_sample(tmp_path: Path) -> None:
    """A hold shorter than the interval would leave every interval unobserved."""
    (problem,) = problems(tmp_path, "[agent]\nsample_interval_seconds = 60\nmax_hold_seconds = 30")
    assert "max_hold_seconds" in problem
    assert "60" in problem


@pytest.mark.parametrize(
    "target", ["127.0.0.1:50051", "[::1]:1", "meter.example.org:443", "dns:///m:1", "unix:/run/x"]
)
def test_a_grpc_target_is_accepted(tmp_path: Path, target: str) -> None:
    """The forms that gRPC resolves."""
    assert load(tmp_path, "", NODEMETER_UPLINK_TARGET=target).uplink.target == target


@pytest.mark.parametrize("target", ["host", "host:", "host:0", "host:65536", "http://h:1", "h:1:2"])
def test_another_target_is_refused(tmp_path: Path, target: str) -> None:
    """A URL, a missing port or an impossible one is not a target."""
    (problem,) = problems(tmp_path, "", NODEMETER_UPLINK_TARGET=target)
    assert problem.startswith("NODEMETER_UPLINK_TARGET: must be host:port")


def test_an_address_has_no_zone(tmp_path: Path) -> None:
    """It would mean nothing elsewhere, and the aggregator refuses it."""
    assert load(tmp_path, "", NODEMETER_NODE_ADDRESS="fe80::1").node.address == "fe80::1"
    (problem,) = problems(tmp_path, "", NODEMETER_NODE_ADDRESS="fe80::1%eth0")
    assert "must be an IP address without a zone" in problem


def test_broken_toml_names_the_place(tmp_path: Path) -> None:
    """The report says where the file stops being TOML."""
    (problem,) = problems(tmp_path, "[node]\nname = \n")
    assert "not valid TOML" in problem
    assert "line 2" in problem


@pytest.mark.parametrize(
    "text",
    [
        f"a = {'[' * 5000}",
        f"a = {'{a=' * 5000}",
        f"[http]\nport{'.a' * 5000} = 1\n[jobs]\ndir{'.a' * 5000} = 1\n",
        f"[http]\nport = {'9' * 5000}\n",
        f"[http]\nport = 0x{'f' * 5000}\n[jobs]\ndir = 0x{'f' * 5000}\n",
    ],
)
def test_toml_without_measure_is_a_fault(tmp_path: Path, text: str) -> None:
    """Too deep to be read or shown, or with numbers of thousands of digits."""
    (problem,) = problems(tmp_path, text)
    assert "nested too deeply, or holds a number of too many digits" in problem
    (problem,) = problems(tmp_path, "", NODEMETER_SPOOL_RETENTION_HOURS="9" * 5000)
    assert problem.startswith("NODEMETER_SPOOL_RETENTION_HOURS: must be a whole number")


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    """Defaults never stand in for a file that somebody asked for."""
    with pytest.raises(SettingsError, match="No such file"):
        load_settings(str(tmp_path / "none.toml"), {})
    with pytest.raises(SettingsError, match="No such file"):
        load_settings(None, {"NODEMETER_AGENT_CONFIG": str(tmp_path / "none.toml")})


def test_the_virtual_environment_s_file_comes_before_the_system_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `make run` wrote is found by plain `.venv/bin/nodemeter-agent exec`."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    own = tmp_path / "etc" / "nodemeter" / "agent.toml"
    assert find_config(None, {}) != str(own)
    own.parent.mkdir(parents=True)
    own.symlink_to(tmp_path / "state" / "agent.toml")
    assert find_config(None, {}) != str(own), "its state directory is gone"
    named = {"NODEMETER_STATE_DIR": str(tmp_path / "other")}
    own.unlink()
    own.touch()
    assert find_config(None, {}) == find_config(None, named) == str(own)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "agent.toml").touch()
    assert find_config(None, named) == str(tmp_path / "other" / "agent.toml")
    assert find_config("/x", {}) == "/x"
    assert find_config(None, {"NODEMETER_AGENT_CONFIG": "/y"}) == "/y"


def test_a_reader_reports_what_it_was_not_asked_for() -> None:
    """A subset of the keys, as `exec` reads it, is enough to take values."""
    reader = Reader({"jobs": {"dir": "/x"}, "node": {"name": "n"}}, {})
    assert reader.text("jobs", "dir", "", lambda _: None) == "/x"
    (problem,) = reader.problems()
    assert problem.startswith("[node]: unknown section")


def test_the_providers_that_can_be_configured_are_those_that_exist() -> None:
    """Settings may not import the providers, so a test holds the two lists together."""
    assert list(PROVIDER_NAMES) == list(PROVIDERS)
