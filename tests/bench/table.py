"""What a benchmark says: figures, each beside its ceiling or peer of the same run."""

import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table. `beside` = what the figure is to be compared with."""

    name: str
    value: float
    unit: str
    beside: str
    beside_value: float
    rounds: int


def median_of(rounds: int, measure: Callable[[], float]) -> float:
    """The median of several rounds: these machines are noisy."""
    return statistics.median(measure() for _ in range(rounds))


def show(figures: list[Figure], json_path: str | None) -> None:
    """Print the table, and write the same as JSON where asked."""
    table = Table("figure", "value", "unit", "beside", "its value", "ratio", "rounds")
    for each in figures:
        ratio = f"{each.value / each.beside_value:.2f}" if each.beside_value else "-"
        values = (f"{each.value:,.4g}", each.unit, each.beside, f"{each.beside_value:,.4g}")
        table.add_row(each.name, *values, ratio, str(each.rounds))
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 150).print(table)
    if json_path:
        Path(json_path).write_text(json.dumps([asdict(each) for each in figures], indent=2) + "\n")
