"""A bar for work that takes long, on terminals only."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def tracked(items: Sequence[Item], words: str) -> Iterator[Item]:
    """The items, while a bar on standard error says how many are done."""
    shown: Iterable[Item] = items
    if sys.stderr.isatty() and len(items) > 1:
        shown = track(items, description=words, console=Console(stderr=True), transient=True)
    yield from shown
