"""Opaque places in lists: JSON in base64, fit for a URL.

Nothing is signed: a place says only where to begin, within what the caller may see.
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from aggregator.api.problem import invalid

Place = TypeVar("Place")


def write_parts(parts: Sequence[str | int | None]) -> str:
    """The opaque text of what makes a place."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def read_parts(text: str, make: Callable[[list[Any]], Place], *, giver: str, longest: int) -> Place:
    """The place that `make` makes of the parts; it raises ValueError or TypeError for wrong ones.

    A Problem 400 for what `write_parts` did not write, in words that name the `giver`.
    """
    try:
        return make(_parts(text, longest))
    except (ValueError, TypeError, RecursionError, OverflowError, binascii.Error) as error:
        reason = f"is not one that {giver} gave: begin without it"
        raise invalid({"cursor": [reason]}) from error


def _parts(text: str, longest: int) -> list[Any]:
    if len(text) > longest:
        raise ValueError("too long")
    padded = text + "=" * (-len(text) % 4)
    parts: list[Any] = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    return parts
