"""Processes of `tests.faults.scale.crowd`: told what to do, and asked how it goes."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pydantic import BaseModel, TypeAdapter

from tests.acceptance.product import CHECKOUT
from tests.faults.scale.crowd import node_of
from tests.integration.wire.authority import Authority


class Report(BaseModel):
    """What one process says, or the sum of all."""

    connections: int = 0
    failures: int = 0
    batches: int = 0
    rejects: int = 0
    conflicts: int = 0
    acked: int = 0
    appended: int = 0
    settled: int = 0
    settled_at: list[float] = []
    reasons: dict[str, int] = {}


REPORT = TypeAdapter(Report)


def write_certificates(authority: Authority, count: int, path: Path) -> Path:
    """Certify `count` agents, for `read_certificates`."""
    with path.open("w") as lines:
        numbers = range(1, count + 1)
        clients = authority.clients(node_of(number) for number in numbers)
        for number, client in zip(numbers, clients, strict=True):
            if number == 1:
                lines.write(json.dumps([client.roots.decode(), client.key.decode()]) + "\n")
            lines.write(json.dumps([node_of(number), client.certificate.decode()]) + "\n")
    return path


@dataclass(kw_only=True)
class Crowds:
    """`count` simulated agents in so many processes."""

    port: int
    env: dict[str, str]
    start_ms: int
    count: int
    processes: int = 1
    certificates: Path | None = None
    """None: in plain text."""
    _running: list[subprocess.Popen[str]] = field(default_factory=list["subprocess.Popen[str]"])

    def __enter__(self) -> Self:
        """Begin to connect."""
        share = -(-self.count // self.processes)
        for first in range(1, self.count + 1, share):
            count = min(share, self.count + 1 - first)
            words = (self.port, first, count, self.start_ms, *filter(None, [self.certificates]))
            self._running.append(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.faults.scale.crowd", *map(str, words)],
                    cwd=CHECKOUT,
                    env=self.env,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        return self

    def __exit__(self, *_error: object) -> None:
        """End them, whatever they do."""
        for each in self._running:
            each.kill()
            each.communicate()

    def settle(self) -> Report:
        """Wait until all are connected and all is acked."""
        return self._tell("settle")

    def append(self, frames: int) -> Report:
        """Have each make so many frames, and send them."""
        return self._tell(f"append {frames}")

    def until_acked(self, frames: int) -> Report:
        """Wait until so many frames are acked in every process."""
        return self._tell(f"acked {frames}")

    def _tell(self, line: str) -> Report:
        for each in self._running:
            assert each.stdin is not None
            each.stdin.write(f"{line}\n")
            each.stdin.flush()
        return _sum([_answer(each) for each in self._running])


def _answer(process: "subprocess.Popen[str]") -> Report:
    assert process.stdout is not None
    return REPORT.validate_json(process.stdout.readline())


def _sum(reports: list[Report]) -> Report:
    total = Report()
    for each in reports:
        for name in ("connections", "failures", "batches", "rejects", "conflicts", "acked"):
            setattr(total, name, getattr(total, name) + getattr(each, name))
        total.appended += each.appended
        total.settled += each.settled
        total.settled_at = sorted([*total.settled_at, *each.settled_at])
        for reason, count in each.reasons.items():
            total.reasons[reason] = total.reasons.get(reason, 0) + count
    return total
