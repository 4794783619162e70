"""The configuration: one report of every fault, in words that say what to change."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from aggregator.errors import SettingsError, expected_url
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
    assert '[grpc] host: "0.0.0.0" is not a loopback address' in found
    assert "[retention] usage_days: " in found
    assert "[database] url: 'mysql://u:***@db/x' is neither \"embedded\" nor a URL" in found
    assert "NODEMETER_LOG_LEVLE: unknown variable; did you mean NODEMETER_LOG_LEVEL?" in found
    assert "secret" not in found


NETWORKS = "must be networks like 10.0.0.0/8 or fd00::/8"
PORT = "must be a whole number from 0 to 65535"
LINGER = "must be a number from 0 to 5"
LEVEL = "must be one of debug, info, warning, error"
KNOWN = "sections are database, http, grpc, "
ENVIRONMENT = {
    "NODEMETER_HTTP_PORT": "many",
    "NODEMETER_GRPC_PORT": "8080.0",
    "NODEMETER_HTTP_OPEN_TO": "10.0.0.0/8, 10.0.0.1/8",
    "NODEMETER_HTTP_OPEN_ROLE": "root",
    "NODEMETER_RATER_INTERVAL_SECONDS": "0",
    "NODEMETER_INGEST_LINGER_SECONDS": "nan",
    "NODEMETER_DATABASE_STATE_DIR": "",
    "NODEMETER_DATABASE_URL": "postgres//nm:s3cret@db/nm",
}


def test_a_wrong_value_of_the_environment_is_named_by_its_variable(tmp_path: Path) -> None:
    """With the rule and what it is; over whatever the file says. Secrets are not shown."""
    assert set(problems(tmp_path, "[http]\nport = 1\n", ENVIRONMENT)) == {
        'NODEMETER_HTTP_PORT: must be a whole number from 0 to 65535, not "many"',
        'NODEMETER_GRPC_PORT: must be a whole number from 0 to 65535, not "8080.0"',
        f'NODEMETER_HTTP_OPEN_TO: {NETWORKS}, not "10.0.0.1/8"; write 10.0.0.0/8',
        'NODEMETER_HTTP_OPEN_ROLE: must be one of admin, viewer, not "root"',
        "NODEMETER_RATER_INTERVAL_SECONDS: must be a number above 0 and at most 3600, not 0.0",
        'NODEMETER_INGEST_LINGER_SECONDS: must be a number from 0 to 5, not "nan"',
        'NODEMETER_DATABASE_STATE_DIR: must be a path, not ""',
        f"NODEMETER_DATABASE_URL: {expected_url('?:?')}",
    }


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("x = 1", f"x: a key outside any section; {KNOWN}"),
        ("'a b' = 1", f'"a b": a key outside any section; {KNOWN}'),
        ("http = 3", "[http]: must be a section with its keys, not 3"),
        ("[[http]]\nport = 1", '[http]: must be a section with its keys, not [{"port": 1}]'),
        ("['a\u009bb']\n", '["a\\u009bb"]: unknown section; '),
        ("[http.tls]\nkey = 1", "[http] tls: unknown key; known are host, port, open_to, "),
        ("[grpc]\nport = true", f"[grpc] port: {PORT}, not true"),
        ("[http]\nport = 8080.0", f"[http] port: {PORT}, not 8080.0"),
        ('[http]\nport = "8080"', f'[http] port: {PORT}, not "8080"'),
        ("[http]\nhost = 3", "[http] host: must be a text, not 3"),
        ("[http]\nopen_to = [3]", f"[http] open_to: {NETWORKS}, not 3"),
        ("[http]\nopen_to = 3", "[http] open_to: must be a list of networks like 10.0.0.0/8, "),
        ("[http]\nopen_to = ['a']", f'[http] open_to: {NETWORKS}, not "a"'),
        ("[ingest]\nlinger_seconds = true", f"[ingest] linger_seconds: {LINGER}, not true"),
        ("[ingest]\nlinger_seconds = nan", f"[ingest] linger_seconds: {LINGER}, not NaN"),
        ("[log]\nlevel = 2026-01-01", f'[log] level: {LEVEL}, not "2026-01-01"'),
        ("[database]\nstate_dir = 3", "[database] state_dir: must be a path, not 3"),
    ],
)
def test_a_fault_says_where_what_and_what_to_write(tmp_path: Path, text: str, fault: str) -> None:
    """In our words: what, the rule, the value."""
    (found,) = problems(tmp_path, text)
    assert found.startswith(fault)


@pytest.mark.parametrize(
    "host",
    ["not..host", "", "-a", "a-", ".a", "a b", "a/b", "300.1.1.1", "1", "[::1]", "a" * 64, "a:1",
     "a." * 127 + "a", "fe80::1%a\nb", "http://a"],
)  # fmt: skip
def test_a_host_that_cannot_be_is_refused(tmp_path: Path, host: str) -> None:
    """It is neither an address nor a name."""
    (found,) = problems(tmp_path, f"[http]\nhost = {json.dumps(host)}\n")
    assert found.startswith("[http] host: must be the address or name to listen on")


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "fe80::1%eth0", "localhost", "a_b", "1a.Example.org.", "xn--p1ai"]
)
def test_any_address_or_name_may_be_listened_on(tmp_path: Path, host: str) -> None:
    """Whether this machine has it shows when it starts."""
    assert load(tmp_path, f'[http]\nhost = "{host}"\n').http.host == host


def test_two_parts_cannot_have_one_port(tmp_path: Path) -> None:
    """Unless their addresses differ; 0 is a port of the kernel's choice."""
    (found,) = problems(tmp_path, "[http]\nport = 50051\n")
    assert found == "[http] port and [grpc] port are both 50051: they must be two ports"
    (found,) = problems(tmp_path, '[http]\nhost = "::"\n', {"NODEMETER_GRPC_PORT": "8080"})
    assert found == "[http] port and NODEMETER_GRPC_PORT are both 8080: they must be two ports"
    elsewhere = {"NODEMETER_HTTP_HOST": "10.0.0.1", "NODEMETER_HTTP_PORT": "50051"}
    assert load(tmp_path, "", elsewhere).http.port == 50051
    assert load(tmp_path, "[http]\nport = 0\n[grpc]\nport = 0\n").http.port == 0


SECRETS: list[tuple[str, Mapping[str, str]]] = [
    ("[database]\nurl = ['postgresql://u:s3cret@h/d']\n", {}),
    ("[database]\nurl = ['s3cret']\n", {}),
    ("[database]\npool_size = 'postgresql://u:s3cret@h/d'\n", {}),
    ("[http]\nhost = 'u:s3cret@h'\n", {}),
    ("[http]\nopen_to = ['password=s3cret']\n", {}),
    ("[database]\npassword = 's3cret'\n", {}),
    ("password = 's3cret'\n", {}),
    ("database = 'postgresql://u:s3cret@h/d'\n", {}),
    ("", {"NODEMETER_DATABASE_URL": "postgresql://nm:s3cret/d"}),
    ("", {"NODEMETER_DATABASE_URL": "postgresql://nm:x@s3cret@h/d"}),
    ("", {"NODEMETER_DATABASE_URL": "postgresql://nm@h/d?pasword=s3cret"}),
    ("", {"NODEMETER_DATABASE_URL": "host=h pasword=s3cret"}),
    ("", {"NODEMETER_DATABASE_PASSWORD": "s3cret"}),
    ("", {"NODEMETER_HTTP_PORT": "postgresql://u:s3cret@h/d"}),
]


@pytest.mark.parametrize(("text", "environ"), SECRETS)
def test_no_fault_shows_a_password(tmp_path: Path, text: str, environ: Mapping[str, str]) -> None:
    """Wherever it was put by mistake."""
    (found,) = problems(tmp_path, text, environ)
    assert "s3cret" not in found


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_plain_text_stays_on_the_machine(tmp_path: Path, host: str) -> None:
    """Any loopback address will do."""
    assert load(tmp_path, f'[grpc]\nhost = "{host}"\n').grpc.host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "example.org"])
def test_plain_text_does_not_leave_the_machine(tmp_path: Path, host: str) -> None:
    """Without TLS agents are taken at their word; the way to TLS is told."""
    (fault,) = problems(tmp_path, f'[grpc]\nhost = "{host}"\n')
    assert "without TLS" in fault
    assert "nodemeter-aggregator ca init" in fault
    settings = load(tmp_path, f'[grpc]\nhost = "{host}"\n[tls]\nmode = "mutual"\n')
    assert settings.grpc.host == host


@pytest.mark.parametrize("host", ["", "[::1]", "::1%\\u001b[31m"])
def test_what_is_no_host_is_said_to_be_none(tmp_path: Path, host: str) -> None:
    """Rather than one that is not on loopback."""
    (fault,) = problems(tmp_path, f'[grpc]\nhost = "{host}"\n')
    assert "must be the address or name to listen on" in fault


def test_nodes_are_enrolled_over_tls_only(tmp_path: Path) -> None:
    """The authority is below the state directory unless it is named."""
    (fault,) = problems(tmp_path, "[grpc]\nenroll_port = 50052\n")
    assert "[grpc] enroll_port: nodes are enrolled over TLS only" in fault
    text = '[grpc]\nenroll_port = 50052\n[tls]\nmode = "mutual"\n'
    settings = load(tmp_path, text, {"NODEMETER_DATABASE_STATE_DIR": "/srv/x"})
    assert settings.ca_dir == Path("/srv/x/ca")
    assert load(tmp_path, text, {"NODEMETER_TLS_CA_DIR": "/etc/ca"}).ca_dir == Path("/etc/ca")


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
