"""Rows of a checkpoint as JSON columns, and typed access to what is read back. Pure."""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from agent.errors import AgentError

Json: TypeAlias = "int | str | list[Json] | dict[str, Json] | None"


class CheckpointError(AgentError):
    """Says what the checkpoint lacks; it was written by an agent of another time."""


class Row:
    """One row, or the checkpoint itself. What is absent has the default that is given."""

    def __init__(self, values: Mapping[str, Json]) -> None:
        """Read from `values`."""
        self._values = values

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number."""
        value = self._values.get(name, default)
        if not isinstance(value, int):
            raise CheckpointError(f"the checkpoint's {name} is no number: {value!r}")
        return value

    def text(self, name: str) -> str:
        """A text."""
        value = self._values.get(name)
        if not isinstance(value, str):
            raise CheckpointError(f"the checkpoint's {name} is no text: {value!r}")
        return value

    def integer_or_none(self, name: str) -> int | None:
        """A whole number, or none known."""
        return None if self._values.get(name) is None else self.integer(name)

    def text_or_none(self, name: str) -> str | None:
        """A text, or none known."""
        return None if self._values.get(name) is None else self.text(name)

    def rows(self, name: str) -> "Iterator[Row]":
        """The rows of a table; unknown columns are carried and never asked for."""
        table = self._values.get(name)
        if not isinstance(table, dict):
            raise CheckpointError(f"the checkpoint's {name} is no table: {table!r}")
        columns = [column if isinstance(column, list) else [] for column in table.values()]
        for values in zip(*columns, strict=True):
            yield Row(dict(zip(table, values, strict=True)))

    def integers(self, name: str) -> list[list[int]]:
        """Rows of whole numbers."""
        rows = self._values.get(name)
        lists = [row for row in rows if isinstance(row, list)] if isinstance(rows, list) else []
        return [[value for value in row if isinstance(value, int)] for row in lists]

    def row_or_none(self, name: str) -> "Row | None":
        """An object, or none known."""
        value = self._values.get(name)
        return Row(value) if isinstance(value, dict) else None

    def objects(self, name: str) -> "list[Row]":
        """A list of objects."""
        values = self._values.get(name)
        rows = values if isinstance(values, list) else []
        return [Row(value) for value in rows if isinstance(value, dict)]

    def lists(self, name: str) -> list[list[Json]]:
        """A list of lists."""
        values = self._values.get(name)
        rows = values if isinstance(values, list) else []
        return [row for row in rows if isinstance(row, list)]

    def pairs(self, name: str) -> list[tuple[str, list[int]]]:
        """An object whose values are lists of whole numbers."""
        values = self._values.get(name)
        items = values.items() if isinstance(values, dict) else ()
        return [
            (key, [one for one in value if isinstance(one, int)])
            for key, value in items
            if isinstance(value, list)
        ]

    @staticmethod
    def as_integer(value: Json) -> int:
        """A whole number out of a list."""
        if not isinstance(value, int):
            raise CheckpointError(f"the checkpoint holds {value!r} where a number belongs")
        return value
