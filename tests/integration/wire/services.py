"""An aggregator as its operator has it, with its log; and agents' uplinks to it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agent.spool import Spool
from agent.uplink import Uplink
from agent.uplink.explain import Explainer
from agent.uplink.terms import Pace
from agent.uplink.tls import TlsFiles
from tests.integration.wire.authority import Client
from tests.unit.agent.spools import NOW_MS, opened
from tests.unit.agent.test_uplink_session import IDENTITY, batch

_SECONDS = 40
_PACE = Pace(base_seconds=0.01, cap_seconds=0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """An aggregator that serves with TLS on all addresses."""

    port: int
    enroll_port: int
    ca_dir: Path
    environ: Mapping[str, str]
    log: Path

    def logged(self, action: str, words: str) -> str:
        """The line of the log with these words; waits for it."""
        return until(lambda: self._find(action, words), self.log.read_text)

    def ca(self, *words: str) -> str:
        """What `nodemeter-aggregator ca` prints."""
        done = subprocess.run(
            [sys.executable, "-m", "aggregator", "ca", *words],
            env={**os.environ, **self.environ},
            capture_output=True,
            text=True,
            check=True,
            timeout=_SECONDS,
        )
        return done.stdout

    def _find(self, action: str, words: str) -> str | None:
        lines = self.log.read_text().splitlines()
        found = [line for line in lines if f"action={action}" in line and words in line]
        return found[-1] if found else None


def until(found: Callable[[], str | None], instead: Callable[[], str] = str) -> str:
    """Poll, with a deadline."""
    deadline = time.monotonic() + _SECONDS
    while (what := found()) is None:
        assert time.monotonic() < deadline, instead()
        time.sleep(0.02)
    return what


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    database_url: str, ca_dir: Path, environ: Mapping[str, str] | None = None
) -> Generator[Service]:
    """An aggregator with the authority in `ca_dir`; killed at the end."""
    port, enroll_port = free_port(), free_port()
    given = {
        "NODEMETER_DATABASE_URL": database_url,
        "NODEMETER_HTTP_PORT": str(free_port()),
        "NODEMETER_GRPC_HOST": "0.0.0.0",
        "NODEMETER_GRPC_PORT": str(port),
        "NODEMETER_GRPC_ENROLL_PORT": str(enroll_port),
        "NODEMETER_TLS_MODE": "mutual",
        "NODEMETER_TLS_CA_DIR": str(ca_dir),
        **(environ or {}),
    }
    log = ca_dir.parent / "aggregator.log"
    with log.open("w") as stderr:
        command = [sys.executable, "-m", "aggregator", "serve"]
        process = subprocess.Popen(command, env={**os.environ, **given}, stderr=stderr)
    service = Service(port=port, enroll_port=enroll_port, ca_dir=ca_dir, environ=given, log=log)
    try:
        service.logged("serve", "serving")
        yield service
    finally:
        process.kill()
        process.wait()


def files_of(client: Client, folder: Path) -> TlsFiles:
    """What an agent with that certificate has on its disk."""
    folder.mkdir()
    (folder / "ca.pem").write_bytes(client.roots)
    (folder / "node.pem").write_bytes(client.key + client.certificate)
    node = folder / "node.pem"
    return TlsFiles(ca=folder / "ca.pem", certificate=node, key=node)


@contextmanager
def sending(
    folder: Path, target: str, node: str, tls: TlsFiles | None
) -> Generator[tuple[Uplink, Spool]]:
    """An agent's uplink, running, with an empty spool."""
    with opened(folder) as spool:
        identity = replace(IDENTITY, node=node)
        explainer = Explainer(target, tls)
        uplink = Uplink(target, identity, spool, tls=tls, explain=explainer.explain, pace=_PACE)
        uplink.start()
        try:
            yield uplink, spool
        finally:
            uplink.stop()


def append(spool: Spool) -> None:
    """Add one batch."""
    spool.append(batch(spool.last_sequence + 1), b"state", NOW_MS)
