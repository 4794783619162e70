"""Slurm's way to write many node names as one: `n[1-3,07],gpu1`. Pure."""

import re

_BRACKETS = re.compile(r"\[([^\]]*)\]")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_MAX_TEXT = 1 << 16


def is_in(name: str, hostlist: str) -> bool:
    """Whether the hostlist names this node; never expands it."""
    return any(_fits(name, item) for item in _items(hostlist[:_MAX_TEXT]))


def _items(hostlist: str) -> list[str]:
    """Split at the commas outside of brackets."""
    items, depth, start = [], 0, 0
    for at, character in enumerate(hostlist):
        depth += (character == "[") - (character == "]")
        if character == "," and not depth:
            items.append(hostlist[start:at])
            start = at + 1
    return [*items, hostlist[start:]]


def _fits(name: str, item: str) -> bool:
    """Match the fixed parts as they stand, and digits where brackets are."""
    parts = _BRACKETS.split(item)  # fixed, in brackets, fixed, …
    expression = "".join(
        "([0-9]{1,18})" if at % 2 else re.escape(part) for at, part in enumerate(parts)
    )
    match = re.fullmatch(expression, name)
    return match is not None and all(
        _is_within(digits, ranges)
        for digits, ranges in zip(match.groups(), parts[1::2], strict=True)
    )


def _is_within(digits: str, ranges: str) -> bool:
    """Whether one of `1-3,07` covers the digits; leading zeros count, as they do for Slurm."""
    for text in ranges.split(","):
        match = _RANGE.fullmatch(text)
        if match is None:
            continue
        first, last = match[1], match[2] or match[1]
        is_padded = len(first) == len(digits) or not (first.startswith("0") or digits[0] == "0")
        if is_padded and int(first) <= int(digits) <= int(last):
            return True
    return False
