"""Reads and writes the files that administrators name; - is standard input or output."""

import sys
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path

from aggregator.admin.errors import AdminError, UsageError

MAX_BYTES = 4 << 20
"""More than any list that is taken could have."""


def text_of(file: str) -> str:
    """All that a file holds, in UTF-8 with or without its mark; UsageError if it cannot be."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise UsageError(f"{file} is larger than {MAX_BYTES >> 20} MiB; split it into several")
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise UsageError(f"{file} is not UTF-8 but UTF-16: save it as UTF-8 (CSV UTF-8)")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{file}, line {line}: is not UTF-8 text") from error


def write_text(file: str, text: str) -> None:
    """Write a file, or standard output; AdminError if it cannot be."""
    if file == "-":
        sys.stdout.write(text)
        return
    try:
        Path(file).write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise AdminError(f"{file} cannot be written: {error.strerror}") from error
