"""What the API refuses, in the words of the command: options, where it names properties. Pure."""

import re
from collections.abc import Mapping
from typing import Final

_WORDS: Final[Mapping[str, str]] = {
    "currency": "the currency",
    "endsAt": "--to",
    "expiresAt": "--days",
    "from": "--from",
    "hours": "--hours",
    "ifMatch": "nothing was applied",  # what was looked at is not what there is
    "item": "--item",
    "key": "the key",
    "name": "the name",
    "node": "the node",
    "period": "the month",
    "project": "the project",
    "quantity": "the quantity",
    "rate": "the rate",
    "reason": "--reason",
    "startsAt": "--from",
    "startsOn": "--from",
    "to": "--to",
    "type": "the type",
    "usedPeriod": "--used-period",
    "userId": "--user",
    "value": "the value",
    "vc": "--vc",
    "vcName": "--vc",
}
_VERBS: Final = "is|are|has|may|must|lies|matches|overlaps"
_NAMED = re.compile(rf"(?P<before>^|; )(?P<name>{'|'.join(_WORDS)}):(?= (?P<verb>(?:{_VERBS})\b)?)")


def in_words(text: str) -> str:
    """The text with what stands for each property; `startsAt: must …` is `--from must …`."""
    return _NAMED.sub(_said, text)


def _said(found: re.Match[str]) -> str:
    return found["before"] + _WORDS[found["name"]] + ("" if found["verb"] else ":")
