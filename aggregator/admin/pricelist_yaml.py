"""Price lists as YAML: a mapping of values by key.

Only nodes are composed, so every value keeps the text in which it was written (`no` is a
key, 1.10 has two decimals) and its line and column, and no object is ever made. Anchors,
aliases and tags, by which a small text can mean a large one, are refused.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

import yaml

from aggregator.admin.client import Json, Number
from aggregator.admin.errors import UsageError
from aggregator.admin.pricelist_entry import FIELDS, Entry

_Node: TypeAlias = yaml.Node
_MAX_TOKENS = 200_000
_MAX_DEPTH = 4
_PLAIN = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}


class _Dumper(yaml.SafeDumper):
    """Writes numbers as they are."""


def _represent(dumper: yaml.SafeDumper, number: Number) -> yaml.Node:
    kind = "float" if "." in number else "int"
    return dumper.represent_scalar(f"tag:yaml.org,2002:{kind}", str(number))


_Dumper.add_representer(Number, _represent)


def write(prices: Mapping[str, Json]) -> str:
    """Values by key as text."""
    return yaml.dump(dict(prices), Dumper=_Dumper, allow_unicode=True, sort_keys=False)


def read(text: str, name: str) -> Iterable[Entry]:
    """The lines of a text; UsageError where it is no such mapping."""
    try:
        _check(text, name)
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = name if mark is None else f"{name}{_position(mark.line, mark.column)}"
        raise UsageError(f"{place}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{name}: is no YAML: {error}") from error
    if not isinstance(root, yaml.MappingNode):
        raise UsageError(f"{name}: must be a mapping like `cpu: 0.25`")
    for key, node in _pairs(root, name):
        for each in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            yield _entry(key, each, name)


def _check(text: str, name: str) -> None:
    """Refuse what can mean more than it says, before anything is built of it."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.BaseLoader)):
        mark = event.start_mark
        place = name if mark is None else f"{name}{_position(mark.line, mark.column)}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise UsageError(f"{place}: anchors and aliases are not understood here")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            raise UsageError(f"{place}: is nested too deeply")
        if count > _MAX_TOKENS:
            raise UsageError(f"{place}: holds too much; split the list into several")


def _pairs(node: yaml.MappingNode, name: str) -> Iterator[tuple[str, _Node]]:
    """The fields of a mapping, each once."""
    seen: set[str] = set()
    for key, value in node.value:
        text = _text(key, name)
        if text in seen:
            place = f"{name}{_place(key.start_mark)}"
            raise UsageError(f"{place}: {text!r} is given twice")
        seen.add(text)
        yield text, value


def _entry(key: str, node: _Node, name: str) -> Entry:
    where = f"{name}{_place(node.start_mark)}"
    if not isinstance(node, yaml.MappingNode):
        fields = {"value": _text(node, name)}
        return Entry(key=key, fields=fields, where=where, places={"value": f"{where} (value)"})
    return _ranged(key, node, name, where)


def _ranged(key: str, node: yaml.MappingNode, name: str, where: str) -> Entry:
    fields: dict[str, str] = {}
    places: dict[str, str] = {}
    for field, value in _pairs(node, name):
        if field not in FIELDS:
            raise UsageError(f"{where}: {field!r} is none of {', '.join(FIELDS)}")
        fields[field] = _text(value, name)
        places[field] = f"{name}{_place(value.start_mark)} ({field})"
    return Entry(key=key, fields=fields, where=where, places=places)


def _text(node: _Node, name: str) -> str:
    place = f"{name}{_place(node.start_mark)}"
    if node.tag not in _PLAIN:
        raise UsageError(f"{place}: tags like {node.tag!r} are not understood here")
    if not isinstance(node, yaml.ScalarNode):
        raise UsageError(f"{place}: must be a number or a text")
    return str(node.value)


def _place(mark: yaml.Mark) -> str:
    return _position(mark.line, mark.column)


def _position(line: int, column: int) -> str:
    return f", line {line + 1}, column {column + 1}"
