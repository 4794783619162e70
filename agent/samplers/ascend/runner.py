"""Runs npu-smi: one at a time, for a few seconds at most, its output bounded."""

import os
import select
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress

from agent.errors import SamplerError

TIMEOUT_SECONDS = 5.0
_REAP_SECONDS = 1.0
_MAX_BYTES = 1 << 20
_CHUNK = 1 << 16
_LIBRARIES = "/usr/local/Ascend/driver/lib64/driver:/usr/local/Ascend/driver/lib64/common"
"""Where the driver's own libraries are, for machines whose linker was not told."""


class NpuSmi:
    """The program at `path`; use it from one thread."""

    def __init__(
        self,
        path: str,
        monotonic_ns: Callable[[], int],
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        """Run nothing yet."""
        self._path = path
        self._monotonic_ns = monotonic_ns
        self._timeout_seconds = timeout_seconds
        self._stuck: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str) -> str:
        """What it prints.

        Raises:
            SamplerError: it cannot be started, fails, prints too much or takes too long,
                or one of before still hangs in the driver, where no signal reaches it.
        """
        if self._stuck is not None and self._stuck.poll() is None:
            raise SamplerError(f"npu-smi (pid {self._stuck.pid}) hangs in the driver")
        self._stuck = None
        name = " ".join(("npu-smi", *arguments))
        try:
            process = subprocess.Popen(
                [self._path, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_environment(os.environ),
                start_new_session=True,
            )
        except OSError as error:
            raise SamplerError(f"{name} cannot be run: {error.strerror}") from error
        return self._collect(process, name)

    def _collect(self, process: "subprocess.Popen[bytes]", name: str) -> str:
        assert process.stdout is not None
        with process.stdout:
            data, reason = self._read(process.stdout.fileno())
        status = self._end(process, is_killed=reason is not None)
        text = data.decode(errors="replace")
        if reason is not None or status is None:
            raise SamplerError(f"{name} {reason or 'does not end'}")
        if status != 0:
            first = next((line.strip() for line in text.splitlines() if line.strip()), "")
            raise SamplerError(f"{name} fails with status {status}: {first[:200]!a}")
        return text

    def _read(self, fd: int) -> tuple[bytes, str | None]:
        """Read to the end, or say why not."""
        deadline_ns = self._monotonic_ns() + int(self._timeout_seconds * 1e9)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        data = bytearray()
        while (left_ns := deadline_ns - self._monotonic_ns()) > 0:
            if not poll.poll(left_ns / 1e6):
                continue
            chunk = os.read(fd, _CHUNK)
            if not chunk:
                return bytes(data), None
            data += chunk
            if len(data) > _MAX_BYTES:
                return b"", f"prints more than {_MAX_BYTES} bytes"
        return b"", f"takes more than {self._timeout_seconds:g} s"

    def _end(self, process: "subprocess.Popen[bytes]", *, is_killed: bool) -> int | None:
        if is_killed:
            _kill(process)
        try:
            return process.wait(_REAP_SECONDS)
        except subprocess.TimeoutExpired:  # it closed its output and stays, or cannot be killed
            _kill(process)
            self._stuck = process
            return None


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """With all that it started; it leads a session of its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _environment(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Ours, in the C locale; the driver's libraries last."""
    paths = [path for path in (environ.get("LD_LIBRARY_PATH"), _LIBRARIES) if path]
    return {**environ, "LC_ALL": "C", "LANGUAGE": "C", "LD_LIBRARY_PATH": ":".join(paths)}
