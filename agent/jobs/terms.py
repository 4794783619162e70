"""The words that every provider shares."""

import re
from dataclasses import dataclass

MAX_TEXT = 256
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What a provider could not use, and what to do about it."""

    source: str
    message: str


def bill_text(text: str, default: str = "") -> str:
    """Make a foreign text fit a bill: no control characters, no more than 256 characters."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)[:MAX_TEXT] or default
