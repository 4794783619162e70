"""Says what is wrong with a value of the configuration in the operator's words. Pure.

Where it stands, the rule, what it is, and so what to write; never the words of the
library that checks the types, and never what may hold a password.
"""

import re
from collections.abc import Collection, Mapping
from typing import TypeAlias

from pydantic_core import ErrorDetails

from aggregator.values import shown
from aggregator.variables import variable

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
Schema: TypeAlias = Mapping[str, Json]
"""The JSON schema of a key."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(
    r"[+-]?(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(?:[eE][+-]?[0-9]{1,3})?"
)
_BARE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SECRET = {("database", "url"), ("database", "owner_url")}


def from_text(text: str, schema: Schema) -> object:
    """What a variable's text means for a key; the text itself where it means nothing."""
    stripped = text.strip()
    if schema.get("type") == "integer" and _WHOLE.fullmatch(stripped):
        return int(stripped)
    if schema.get("type") == "number" and _NUMBER.fullmatch(stripped):
        return float(stripped)
    return text


def fault(
    detail: ErrorDetails,
    schemas: Mapping[str, Mapping[str, Schema]],
    from_environment: Collection[tuple[str, str]],
) -> str:
    """One line about one fault; `schemas` are those of each section's keys."""
    section, *rest = map(str, detail["loc"])
    if not rest:
        return _fault_of_section(section, detail, schemas)
    key = rest[0]
    keys = schemas[section]
    if key not in keys:
        return f"[{section}] {_name(key)}: unknown key; known are {', '.join(keys)}"
    where = place(section, key, from_environment)
    if detail["type"] == "value_error":
        return f"{where}: {detail['msg'].removeprefix('Value error, ')}"
    value = "what it is" if (section, key) in _SECRET else shown(detail["input"])
    return f"{where}: {_rule(keys[key])}, not {value}"


def place(section: str, key: str, from_environment: Collection[tuple[str, str]]) -> str:
    """Where a value stands: its variable, or its key of the file."""
    if (section, key) in from_environment:
        return variable(section, key)
    return f"[{section}] {key}"


def _fault_of_section(name: str, detail: ErrorDetails, sections: Collection[str]) -> str:
    if name in sections:
        return f"[{name}]: must be a section with its keys, not {shown(detail['input'])}"
    if isinstance(detail["input"], dict):
        return f"[{_name(name)}]: unknown section; known are {', '.join(sections)}"
    return f"{_name(name)}: a key outside any section; sections are {', '.join(sections)}"


def _name(key: str) -> str:
    return key if _BARE.fullmatch(key) else shown(key)


def _rule(schema: Schema) -> str:
    match schema:
        case {"enum": [*words]}:
            return f"must be one of {', '.join(map(str, words))}"
        case {"type": "integer", "minimum": least, "maximum": most}:
            return f"must be a whole number from {least} to {most}"
        case {"type": "number", "minimum": least, "maximum": most}:
            return f"must be a number from {least} to {most}"
        case {"type": "number", "exclusiveMinimum": least, "maximum": most}:
            return f"must be a number above {least} and at most {most}"
        case _:
            return "must be a text"
