"""The configuration: one report of every fault, in words that say what to change."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from aggregator.errors import SettingsError
from aggregator.settings import Settings, find_config, load_settings


def load(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    """Load a file of that text."""
    file = folder / "aggregator.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file, environ or {})


def problems(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """What is wrong with it."""
    with pytest.raises(SettingsError) as caught:
        load(folder, text, environ)
    assert str(folder / "aggregator.toml") in str(caught.value)
    return caught.value.problems


def test_the_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    """An empty file is a valid one."""
    settings = load(tmp_path, "")
    assert (settings.http.host, settings.http.port) == ("127.0.0.1", 8080)
    assert (settings.grpc.host, settings.grpc.port) == ("127.0.0.1", 50051)
    assert settings.database.url == "embedded"
    assert [str(network) for network in settings.http.open_to] == ["127.0.0.0/8", "::1/128"]
    assert settings.retention.usage_days == 7


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    """Lists are separated by commas."""
    environ = {
        "NODEMETER_HTTP_PORT": "9090",
        "NODEMETER_HTTP_OPEN_TO": "10.0.0.0/8, fd00::/8",
        "NODEMETER_DATABASE_STATE_DIR": "/srv/x",
    }
    settings = load(tmp_path, "[http]\nport = 1\n", environ)
    assert settings.http.port == 9090
    assert [str(network) for network in settings.http.open_to] == ["10.0.0.0/8", "fd00::/8"]
    assert settings.database.state_dir == Path("/srv/x")


def test_nobody_is_let_in_by_an_empty_list(tmp_path: Path) -> None:
    """The installed configuration starts with one."""
    assert load(tmp_path, "[http]\nopen_to = []\n").http.open_to == ()
    assert load(tmp_path, "", {"NODEMETER_HTTP_OPEN_TO": ""}).http.open_to == ()


def test_every_fault_is_in_one_report(tmp_path: Path) -> None:
    """Unknown sections, unknown keys, wrong values, from the file and the environment."""
    text = """
        [htpt]
        port = 1
        [http]
        prot = 1
        port = "many"
        [grpc]
        host = "0.0.0.0"
        [retention]
        usage_days = 0
        [database]
        url = "mysql://u:secret@db/x"
    """
    found = "\n".join(problems(tmp_path, text, {"NODEMETER_LOG_LEVLE": "info"}))
    assert "[htpt]: unknown section; known are database, http, grpc" in found
    assert "[http] prot: unknown key; known are host, port, open_to, open_role" in found
    assert "[http] port: " in found
    assert "[grpc] host: 0.0.0.0 is not a loopback address" in found
    assert "[retention] usage_days: " in found
    assert "[database] url: 'mysql://u:***@db/x' is neither \"embedded\" nor a URL" in found
    assert "NODEMETER_LOG_LEVLE: unknown variable; did you mean NODEMETER_LOG_LEVEL?" in found
    assert "secret" not in found


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_plain_text_stays_on_the_machine(tmp_path: Path, host: str) -> None:
    """Any loopback address will do."""
    assert load(tmp_path, f'[grpc]\nhost = "{host}"\n').grpc.host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "example.org", ""])
def test_plain_text_does_not_leave_the_machine(tmp_path: Path, host: str) -> None:
    """Agents are taken at their word until there is TLS."""
    (fault,) = problems(tmp_path, f'[grpc]\nhost = "{host}"\n')
    assert "without TLS" in fault


def test_other_programs_variables_are_let_be(tmp_path: Path) -> None:
    """The agent's sections, `make run`'s own, and where the configuration is."""
    environ = {
        "NODEMETER_UPLINK_TARGET": "x",
        "NODEMETER_STATE_DIR": "/x",
        "NODEMETER_AGGREGATOR_CONFIG": "/x",
        "NODEMETER_URL": "http://x",
        "NODEMETER_TOKEN": "x",
        "NODEMETER_JOB_ID": "x",
        "PATH": "/bin",
    }
    assert load(tmp_path, "", environ) == Settings()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("NODEMETER_HTTPS_PORT", "NODEMETER_HTTP_PORT"),
        ("NODEMETER_HTP_PORT", "NODEMETER_HTTP_PORT"),
        ("NODEMETER_GRPC_PROT", "NODEMETER_GRPC_PORT"),
        ("NODEMETER_STATEDIR", "NODEMETER_STATE_DIR"),
        ("NODEMETER_UPLNK_TARGET", "NODEMETER_UPLINK_TARGET"),
        ("NODEMETER_HTTP", "NODEMETER_HTTP_PORT"),
    ],
)
def test_a_variable_that_nobody_reads_is_a_fault(tmp_path: Path, name: str, nearest: str) -> None:
    """It names the nearest, of our sections and of the agent's."""
    (fault,) = problems(tmp_path, "", {name: "3"})
    assert fault.startswith(f"{name}: unknown variable; did you mean {nearest}? ")


def test_a_service_called_nodemeter_does_not_stop_its_pods(tmp_path: Path) -> None:
    """Kubernetes sets these for every service of the namespace."""
    environ = {
        "NODEMETER_SERVICE_HOST": "10.0.0.1",
        "NODEMETER_SERVICE_PORT_HTTP": "8080",
        "NODEMETER_PORT": "tcp://10.0.0.1:8080",
        "NODEMETER_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "NODEMETER_PORT_8080_TCP_ADDR": "10.0.0.1",
        "NODEMETER_AGGREGATOR_PORT": "tcp://10.0.0.1:50051",
    }
    assert load(tmp_path, "", environ) == Settings()


def test_a_currency_that_no_api_can_show_is_refused(tmp_path: Path) -> None:
    """At start, not at the first request."""
    (fault,) = problems(tmp_path, '[billing]\ncurrency = "XYZ"\n')
    assert fault.startswith("[billing] currency: ")


def test_a_file_that_is_no_toml_is_said_to_be_so(tmp_path: Path) -> None:
    """With the place."""
    (fault,) = problems(tmp_path, "[http\n")
    assert "not valid TOML" in fault
    assert "line 1" in fault


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


def test_a_section_that_is_no_table_is_a_fault(tmp_path: Path) -> None:
    """Even where the environment would write into it."""
    (fault,) = problems(tmp_path, "http = 3\n", {"NODEMETER_HTTP_PORT": "1"})
    assert fault.startswith("[http]")


def test_a_file_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    """By its name."""
    with pytest.raises(SettingsError, match=r"missing\.toml.*\n.*No such file"):
        load_settings(tmp_path / "missing.toml", {})


def test_the_configuration_is_looked_for_where_it_was_said(tmp_path: Path) -> None:
    """The variable goes before the usual places."""
    environ = {"NODEMETER_AGGREGATOR_CONFIG": str(tmp_path / "mine.toml")}
    assert find_config(environ) == tmp_path / "mine.toml"
