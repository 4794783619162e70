"""What a unit's place among the slices says of it: whether it is a job, and whose. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from string import Formatter

from agent.cgroupwatch import Pattern
from agent.jobs.terms import bill_text

MAX_SLICES = 4
"""So many slices may stand before what a pattern names."""

_ANY_SLICE = re.compile(r".+\.slice")
_USER_SLICE = re.compile(r"user-([0-9]{1,10})\.slice")
_ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})")


class UnitPattern:
    """One pattern of the settings."""

    def __init__(self, text: str) -> None:
        """Take `[SLICE/…]UNIT` with `*` and `?`."""
        self._parts = [_expression(part) for part in text.split("/")]

    def places(self) -> Sequence[Pattern]:
        """The paths where such a unit may be: in any slices."""
        return [[_ANY_SLICE] * depth + self._parts for depth in range(MAX_SLICES + 1)]

    def match(self, names: Sequence[str]) -> Sequence[str] | None:
        """What each `*` stands for in this path; None = it is another's."""
        if len(names) < len(self._parts):
            return None
        tail = names[len(names) - len(self._parts) :]
        matches = [part.fullmatch(name) for part, name in zip(self._parts, tail, strict=True)]
        found = [match.groups() for match in matches if match]
        return [text for texts in found for text in texts] if len(found) == len(tail) else None


def fields_of(
    names: Sequence[str], stars: Sequence[str], name_of: Callable[[int], str]
) -> Mapping[str, str]:
    """The fields of the templates, for a unit at this path."""
    unit = names[-1]
    name = unit.rpartition(".")[0]
    slices = [folder for folder in names[:-1] if folder.endswith(".slice")]
    uid = next((match[1] for folder in names if (match := _USER_SLICE.fullmatch(folder))), "")
    fields = {
        "unit": unit,
        "name": name,
        "instance": name.partition("@")[2],
        "slice": slices[-1].removesuffix(".slice") if slices else "",
    }
    numbered = {str(number): "" for number in range(1, 10)}
    numbered |= {str(number): text for number, text in enumerate(stars[:9], start=1)}
    decoded = {field: unescape(text) for field, text in (fields | numbered).items()}
    return decoded | {"uid": uid, "user": name_of(int(uid)) if uid else ""}


def fill(template: str, fields: Mapping[str, str], default: str = "") -> str:
    """Put the fields into a template of the settings; nothing = `default`."""
    return bill_text(_Template().vformat(template, (), fields).strip(), default)


def unescape(name: str) -> str:
    r"""Decode what systemd has escaped, such as `\x2d`."""
    data = name.encode(errors="surrogateescape")
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), data).decode(errors="replace")


class _Template(Formatter):
    """Finds {1} like {unit}: all fields are named."""

    def get_value(
        self, key: int | str, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> object:
        """See `Formatter`."""
        del args
        return kwargs[str(key)]


def _expression(glob: str) -> re.Pattern[str]:
    wild = {"*": "(.*?)", "?": "."}
    return re.compile("".join(wild.get(char) or re.escape(char) for char in glob), re.DOTALL)
