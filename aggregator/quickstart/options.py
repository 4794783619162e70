"""What the environment chooses for `make run`, and whether the ports are free."""

import errno
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aggregator.errors import NodemeterError, SettingsError
from aggregator.settings import SECTIONS
from aggregator.variables import unknown_variables

HOST = "127.0.0.1"
VARIABLES = ("NODEMETER_HTTP_PORT", "NODEMETER_GRPC_PORT", "NODEMETER_STATE_DIR")

_POLL_SECONDS = 0.2
_PORT_PATIENCE_SECONDS = 3.0  # what an earlier run left may still be ending


class PortsTakenError(NodemeterError):
    """Somebody else listens where we should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the environment chooses. `state_dir` None = the checkout's own."""

    http_port: int
    grpc_port: int
    state_dir: Path | None


def read_options(environ: Mapping[str, str]) -> Options:
    """Read the three variables of `make run`; all others are the programs'.

    Raises:
        SettingsError: with every fault.
    """
    problems = [*unknown_variables(environ, SECTIONS)]
    http_port = _port(environ, "NODEMETER_HTTP_PORT", 8080, problems)
    grpc_port = _port(environ, "NODEMETER_GRPC_PORT", 50051, problems)
    if http_port == grpc_port and not problems:
        problems.append(f"NODEMETER_HTTP_PORT and NODEMETER_GRPC_PORT are both {http_port}")
    if problems:
        raise SettingsError(problems, "environment")
    named = environ.get("NODEMETER_STATE_DIR", "")
    state_dir = Path(named).expanduser().absolute() if named else None
    return Options(http_port=http_port, grpc_port=grpc_port, state_dir=state_dir)


def check_ports(options: Options, *, patience_seconds: float = _PORT_PATIENCE_SECONDS) -> None:
    """See that both ports are free.

    Raises:
        PortsTakenError: naming each port that is not, why, and how to choose another.
    """
    deadline = time.monotonic() + patience_seconds
    while faults := _port_faults(options):
        if time.monotonic() >= deadline:
            raise PortsTakenError("\n".join(faults))
        time.sleep(_POLL_SECONDS)


def _port(environ: Mapping[str, str], name: str, default: int, problems: list[str]) -> int:
    text = environ.get(name, "") or str(default)
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 65535:
        return int(text)
    problems.append(f"{name}: {text!r} is not a port from 1 to 65535")
    return default


def _port_faults(options: Options) -> Sequence[str]:
    wanted = [
        ("HTTP", "NODEMETER_HTTP_PORT", options.http_port),
        ("gRPC", "NODEMETER_GRPC_PORT", options.grpc_port),
    ]
    return [
        f"port {port} on {HOST} ({purpose}) {reason}; "
        f"choose another, such as: make run {name}={_another(port)}"
        for purpose, name, port in wanted
        if (reason := _why_not(port)) is not None
    ]


def _another(port: int) -> int:
    return port + 10000 if port < 50000 else port - 10000


def _why_not(port: int) -> str | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return (
                "is taken"
                if error.errno == errno.EADDRINUSE
                else f"cannot be used: {error.strerror}"
            )
    return None
