import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.errors import SettingsError
from aggregator.quickstart.options import Options, PortsTakenError, check_ports, read_options


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_nothing_said_means_the_contracts_defaults() -> None:
    """8080, 50051 and the checkout's own state; an empty variable says nothing."""
    defaults = Options(http_port=8080, grpc_port=50051, state_dir=None)
    assert read_options({}) == defaults
    assert read_options({"NODEMETER_HTTP_PORT": "", "NODEMETER_STATE_DIR": ""}) == defaults


def test_the_three_variables_are_honoured() -> None:
    """Ports and place are the environment's to choose."""
    environ = {
        "NODEMETER_HTTP_PORT": "18080",
        "NODEMETER_GRPC_PORT": "15051",
        "NODEMETER_STATE_DIR": "/srv/state",
    }
    wanted = Options(http_port=18080, grpc_port=15051, state_dir=Path("/srv/state"))
    assert read_options(environ) == wanted


def test_a_relative_state_directory_is_taken_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The services run elsewhere, so they are told the whole path."""
    monkeypatch.chdir(tmp_path)
    assert read_options({"NODEMETER_STATE_DIR": "state"}).state_dir == tmp_path / "state"


def test_every_fault_is_in_one_report() -> None:
    """Two wrong ports are two lines, each with its variable."""
    with pytest.raises(SettingsError) as caught:
        read_options({"NODEMETER_HTTP_PORT": "web", "NODEMETER_GRPC_PORT": "65536"})
    assert "NODEMETER_HTTP_PORT: 'web'" in str(caught.value)
    assert "NODEMETER_GRPC_PORT: '65536'" in str(caught.value)


def test_a_misspelt_variable_is_an_error_and_not_the_default() -> None:
    """Ours, or one of the programs that we start."""
    with pytest.raises(SettingsError, match=r"NODEMETER_HTP_PORT.*mean NODEMETER_HTTP_PORT\?"):
        read_options({"NODEMETER_HTP_PORT": "1"})
    with pytest.raises(SettingsError, match=r"NODEMETER_LOG_LEVLE.*mean NODEMETER_LOG_LEVEL\?"):
        read_options({"NODEMETER_LOG_LEVLE": "debug"})
    read_options({"NODEMETER_LOG_LEVEL": "debug", "NODEMETER_NODE_NAME": "n1"})


@pytest.mark.parametrize("text", ["0", "-1", "80.5", " 80", "٨٠"])
def test_what_is_no_port_is_refused(text: str) -> None:
    """Also what Python would take for a number."""
    with pytest.raises(SettingsError, match="is not a port"):
        read_options({"NODEMETER_HTTP_PORT": text})


def test_one_port_cannot_serve_both() -> None:
    """HTTP and gRPC listen apart."""
    with pytest.raises(SettingsError, match="both 8081"):
        read_options({"NODEMETER_HTTP_PORT": "8081", "NODEMETER_GRPC_PORT": "8081"})


def test_free_ports_are_fine() -> None:
    """Nobody listens: nothing is said."""
    check_ports(Options(http_port=free_port(), grpc_port=free_port(), state_dir=None))


def test_taken_ports_are_named_with_the_way_out(taken_port: int) -> None:
    """Which port, what for, and what to type instead; both at once."""
    options = Options(http_port=taken_port, grpc_port=taken_port, state_dir=None)
    with pytest.raises(PortsTakenError) as caught:
        check_ports(options, patience_seconds=0)
    first, second = str(caught.value).splitlines()
    assert f"port {taken_port} on 127.0.0.1 (HTTP) is taken" in first
    assert "make run NODEMETER_HTTP_PORT=" in first
    assert "make run NODEMETER_GRPC_PORT=" in second


def test_a_port_on_every_address_is_taken_here_too() -> None:
    """Whoever listens on 0.0.0.0 listens on loopback."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = int(server.getsockname()[1])
        with pytest.raises(PortsTakenError, match=str(port)):
            check_ports(
                Options(http_port=port, grpc_port=free_port(), state_dir=None), patience_seconds=0
            )
