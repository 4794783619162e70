"""Words of which there are few: one of them, or what was probably meant. Pure."""

from collections.abc import Iterable
from difflib import get_close_matches

from aggregator.admin.errors import UsageError


def one_of(text: str, choices: Iterable[str], name: str) -> str:
    """The text, if it is one of the choices. Raises UsageError that names them."""
    known = list(choices)
    if text in known:
        return text
    near = get_close_matches(text.lower(), known, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"{text!r} is no {name}: those are {', '.join(known)}{meant}")
