"""The process that becomes the command, and what its parent knows of it.

The child waits until it is told to go: by then it is in its cgroup and its job is on
record. If it cannot become the command it says so and is gone.
"""

# Paths as text, since every import delays the command; and starting it is the purpose.
# ruff: noqa: PTH110, PTH112, PTH113, S606

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Mapping

from agent.errors import LaunchError
from agent.launch.group import JobGroup

_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
_SHELL = "/bin/sh"


def find_program(name: str, path: str) -> str:
    """Find the command as a shell does.

    Raises:
        LaunchError: with status 127 where it does not exist, 126 where it cannot be run.
    """
    if not name:
        raise LaunchError("'': command not found; its name is empty", _NOT_FOUND)
    places = [name] if "/" in name else [f"{folder or '.'}/{name}" for folder in path.split(":")]
    found = [place for place in places if os.path.exists(place)]
    runnable = (place for place in found if os.path.isfile(place) and os.access(place, os.X_OK))
    program = next(runnable, None)
    if program is not None:
        return program
    if not found:
        raise LaunchError(f"{name}: command not found", _NOT_FOUND)
    wrong = "is a directory" if os.path.isdir(found[0]) else "permission denied"
    raise LaunchError(f"{name}: {wrong}", _NOT_EXECUTABLE)


def become(program: str, command: list[str], environ: Mapping[str, str], signals: Signals) -> None:
    """Turn this process into the command.

    Raises:
        LaunchError: that is impossible.
    """
    try:
        _become(program, command, environ, signals)
    except OSError as error:
        raise _cannot_run(program, error.errno or 0) from error


def _cannot_run(program: str, number: int) -> LaunchError:
    """Say why, and name what is missing: of a script it may be what its first line names."""
    status = _NOT_FOUND if number == errno.ENOENT else _NOT_EXECUTABLE
    interpreter = _interpreter(program)
    what = f" (it is a script for {interpreter})" if interpreter else ""
    return LaunchError(f"{program} cannot be run: {os.strerror(number)}{what}", status)


def _interpreter(program: str) -> str:
    """What the first line of a script names; "" = it is none, or not ours to read."""
    try:
        fd = os.open(program, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        line = os.read(fd, 256).partition(b"\n")[0]
    except OSError:
        return ""
    finally:
        os.close(fd)
    words = line[2:].split() if line.startswith(b"#!") else []
    return ascii(os.fsdecode(words[0])) if words else ""


class Signals:
    """The signals that are passed on to the command, taken over from whatever they were.

    Blocked from now on, they wait until somebody asks for them; those that were ignored
    (nohup) stay so, for the command, too.
    """

    _WANTED = (
        signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1,
        signal.SIGUSR2, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH, signal.SIGALRM,
    )  # fmt: skip

    def __init__(self) -> None:
        """Block them."""
        self._ignores_children = signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored children cannot be waited for
        heard = [one for one in self._WANTED if signal.getsignal(one) != signal.SIG_IGN]
        self.all = {signal.SIGCHLD, *heard}
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, self.all)

    def give_back(self) -> None:  # pragma: no cover  as `_live`
        """In the child: leave everything as the command would have found it."""
        for one in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
            signal.signal(one, signal.SIG_DFL)
        if self._ignores_children:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


class Child:
    """A fork that will become the command once it is told to, in its cgroup already."""

    def __init__(
        self,
        program: str,
        command: list[str],
        environ: Mapping[str, str],
        signals: Signals,
        group: JobGroup | None,
    ) -> None:
        """Fork; `pid` has entered `group`, or says in `refusal` why not, and waits for `go`."""
        wait, self._go = os.pipe()
        self._fate, tell = os.pipe()
        self._program = program
        self.pid = group.fork() if group else os.fork()
        if not self.pid:  # pragma: no cover  as `_live`
            os.close(self._go)
            os.close(self._fate)
            _live(wait, tell, group, lambda: _become(program, command, environ, signals))
        os.close(wait)
        os.close(tell)
        entered = int(os.read(self._fate, 8) or b"0")
        self.refusal = os.strerror(entered) if entered else None

    def go(self) -> None:
        """Let it become the command.

        Raises:
            LaunchError: it could not.
        """
        try:
            os.write(self._go, b"!")
        except BrokenPipeError:
            return  # it was killed already: its status will say so
        os.close(self._go)
        failed = int(os.read(self._fate, 8) or b"0")  # nothing: the command has taken over
        os.close(self._fate)
        if failed:
            os.waitpid(self.pid, 0)
            raise _cannot_run(self._program, failed)

    def abandon(self) -> None:
        """Let it end without having become anything."""
        os.close(self._go)
        os.close(self._fate)
        os.waitpid(self.pid, 0)


def _live(  # pragma: no cover  the child's measurement ends with exec, or _exit
    wait: int, tell: int, group: JobGroup | None, become: Callable[[], None]
) -> None:
    """The child's life until it is the command; tells errno, or 0, after each step."""
    try:
        try:
            if group is not None:
                group.enter()
            os.write(tell, b"0")
        except OSError as error:
            os.write(tell, str(error.errno).encode())
        if os.read(wait, 1):
            become()
    except OSError as error:
        os.write(tell, str(error.errno).encode())
    finally:
        os._exit(_NOT_EXECUTABLE)


def _become(  # pragma: no cover  as `_live`
    program: str, command: list[str], environ: Mapping[str, str], signals: Signals
) -> None:
    """Never returns; a script without #! is the shell's, as for any caller of execvp."""
    signals.give_back()
    try:
        os.execve(program, command, environ)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        os.execve(_SHELL, [_SHELL, program, *command[1:]], environ)
