"""Finds a command's configuration and takes typed values out of it.

A key is known once a `Reader` was asked for it, so what nobody asked for is a mistake and
is reported with the known ones. Every key is also read from the environment, as
`NODEMETER_<SECTION>_<KEY>`, which wins over the file. The keys themselves are in
`agent.settings`, except the two that `exec` needs as well.

Standard library only and few of its modules: `exec` pays for each import here.
"""

# Paths as text, since every import delays `exec`.
# ruff: noqa: PTH123

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

from agent.errors import SettingsError

TYPE_CHECKING = False  # importing it from `typing` would cost 3 ms
if TYPE_CHECKING:
    from typing import TypeAlias

    Toml: TypeAlias = str | int | float | bool | list["Toml"] | dict[str, "Toml"] | None

CONFIG_VARIABLE = "NODEMETER_AGENT_CONFIG"
STATE_DIR_VARIABLE = "NODEMETER_STATE_DIR"
SYSTEM_CONFIG = "/etc/nodemeter/agent.toml"
PREFIX = "NODEMETER_"

Check = Callable[[str], str | None]
"""Says what a text must be, if it is not; else None."""


def find_config(explicit: str | None, environ: Mapping[str, str]) -> str | None:
    """Choose the file: the one that is named, else that of a `make run`, else the system's.

    `make run` leaves its file in its state directory, which $NODEMETER_STATE_DIR names for
    it and so for us, and a link to it (dangling once the directory is gone) in the virtual
    environment.

    Returns:
        None where none exists: then the defaults hold. A file that was named is returned
        whether it exists or not, so that its absence is an error.
    """
    named = explicit or environ.get(CONFIG_VARIABLE)
    if named:
        return named
    candidates = [SYSTEM_CONFIG]
    if sys.prefix != sys.base_prefix:
        candidates.insert(0, f"{sys.prefix}/etc/nodemeter/agent.toml")
    if state_dir := environ.get(STATE_DIR_VARIABLE):
        candidates.insert(0, f"{state_dir}/agent.toml")
    return next((path for path in candidates if os.path.exists(path)), None)  # noqa: PTH110  pathlib is not loaded yet


def read_config(path: str | None) -> Mapping[str, Toml]:
    """Parse the file into sections; {} where there is none.

    Raises:
        SettingsError: it cannot be read, or is not TOML (line and column are named).
    """
    if path is None:
        return {}
    import tomllib  # noqa: PLC0415  a third of exec's start-up, and many nodes have no file

    try:
        with open(path, "rb") as file:
            config = tomllib.load(file)
        repr(config)  # what cannot be shown could not be reported either
    except OSError as error:
        raise SettingsError([f"cannot be read: {error.strerror}"], path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError([f"not valid TOML: {error}"], path) from error
    except (RecursionError, ValueError) as error:
        problem = "is nested too deeply, or holds a number of too many digits"
        raise SettingsError([problem], path) from error
    return config


class Reader:
    """Takes values by section and key, remembers what was asked and what was wrong."""

    def __init__(self, raw: Mapping[str, Toml], environ: Mapping[str, str]) -> None:
        """Read from `raw` (sections of keys), each key overridden from `environ`."""
        self._environ = environ
        self._sections: dict[str, Mapping[str, Toml]] = {}
        self._asked: dict[str, list[str]] = {}
        self._problems: list[str] = []
        for name, section in raw.items():
            if isinstance(section, dict):
                self._sections[name] = section
            else:
                self._problems.append(f"{name}: a key outside any section")

    def text(self, section: str, key: str, default: str, check: Check) -> str:
        """Take a text that `check` finds nothing wrong with; else `default`."""
        name, value = self._take(section, key)
        if value is None:
            return default
        wrong = check(value) if isinstance(value, str) else "must be a text"
        if wrong is None and isinstance(value, str):
            return value
        self._problems.append(f"{name}: {wrong}, not {value!r}")
        return default

    def whole(self, section: str, key: str, default: int, *, least: int, most: int) -> int:
        """Take a whole number within [least, most]; else `default`."""
        name, value = self._take(section, key)
        if value is None:
            return default
        if isinstance(value, str) and name.startswith(PREFIX):
            is_number = value.isascii() and value.isdecimal() and len(value) < 20
            value = int(value) if is_number else value
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            rule = f"must be a whole number from {least} to {most}"
            self._problems.append(f"{name}: {rule}, not {value!r}")
            return default
        return value

    def names(
        self, section: str, key: str, default: tuple[str, ...], known: Sequence[str]
    ) -> tuple[str, ...]:
        """Take a list of names out of `known` (in the environment: separated by commas)."""
        name, value = self._take(section, key)
        if value is None:
            return default
        if isinstance(value, str) and name.startswith(PREFIX):
            value = [*filter(None, map(str.strip, value.split(",")))]
        items: Sequence[Toml] = value if isinstance(value, list) else []
        taken = tuple(item for item in items if isinstance(item, str) and item in known)
        if not taken or len(set(taken)) != len(items):
            rule = f"must be a list of some of {', '.join(known)}, each once"
            self._problems.append(f"{name}: {rule}, not {value!r}")
            return default
        return taken

    def flag(self, section: str, key: str, *, default: bool) -> bool:
        """Take true or false (in the environment: one of these words); else `default`."""
        name, value = self._take(section, key)
        if isinstance(value, str) and name.startswith(PREFIX):
            value = {"true": True, "false": False}.get(value.lower(), value)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        self._problems.append(f"{name}: must be true or false, not {value!r}")
        return default

    def texts(
        self, section: str, key: str, default: tuple[str, ...], check: Check
    ) -> tuple[str, ...]:
        """Take a list of texts, each right by `check` (in the environment: by commas)."""
        name, value = self._take(section, key)
        if value is None:
            return default
        if isinstance(value, str) and name.startswith(PREFIX):
            value = [*filter(None, map(str.strip, value.split(",")))]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._problems.append(f"{name}: must be a list of texts, not {value!r}")
            return default
        items = tuple(item for item in value if isinstance(item, str))
        wrong = [f"{check(item)}, not {item!r}" for item in items if check(item)]
        self._problems += [f"{name}: {fault}" for fault in wrong]
        return default if wrong else items

    def complain(self, problem: str) -> None:
        """Add a fault that only the values together show."""
        self._problems.append(problem)

    def faults(self) -> Sequence[str]:
        """What was wrong with the values that were asked for; nothing about the others."""
        return self._problems

    def problems(self) -> Sequence[str]:
        """Everything found wrong so far, unknown sections, keys and variables included."""
        from agent.variables import unknown_variables  # noqa: PLC0415  not for `exec`

        return [
            *self._problems,
            *self._unknown(),
            *unknown_variables(self._environ, self._asked),
        ]

    def _take(self, section: str, key: str) -> tuple[str, Toml]:
        self._asked.setdefault(section, []).append(key)
        variable = f"{PREFIX}{section}_{key}".upper()
        if value := self._environ.get(variable):
            return variable, value
        return f"[{section}] {key}", self._sections.get(section, {}).get(key)

    def _unknown(self) -> Iterable[str]:
        for section, values in self._sections.items():
            if section not in self._asked:
                yield f"[{section}]: unknown section{_hint(section, list(self._asked))}"
                continue
            for key in values.keys() - set(self._asked[section]):
                yield f"[{section}] {key}: unknown key{_hint(key, self._asked[section])}"


def ask_jobs_dir(reader: Reader) -> str:
    """Where the files of the jobs are."""
    return reader.text("jobs", "dir", "/run/nodemeter/jobs.d", check_path)


def ask_cgroup_root(reader: Reader) -> str:
    """Where the cgroup file systems are mounted."""
    return reader.text("cgroup", "root", "/sys/fs/cgroup", check_path)


def check_path(value: str) -> str | None:
    """A path must not depend on where the agent was started."""
    return None if value.startswith("/") and "\0" not in value else "must be an absolute path"


def _hint(wrong: str, known: Sequence[str]) -> str:
    """Name the nearest known name, if one is near, and all of them."""
    import difflib  # noqa: PLC0415  needed for mistakes only

    near = difflib.get_close_matches(wrong, known, n=1)
    guess = f"; did you mean {near[0]}?" if near else ";"
    return f"{guess} known are {', '.join(known)}"
