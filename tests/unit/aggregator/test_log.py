"""One line an event; what is foreign forges nothing; no password is written."""

import logging
from types import TracebackType

import pytest

from aggregator.log import REQUEST_ID, KeyValueFormatter, configure


def line(message: str, **extra: object) -> str:
    """Format an event."""
    record = logging.makeLogRecord(
        {"name": "x", "levelno": 20, "levelname": "INFO", "msg": message, **extra}
    )
    return KeyValueFormatter().format(record).partition(" ")[2]


def test_fields_follow_the_message() -> None:
    """Plain values as they are, others quoted."""
    assert line("set aside", action="quarantine", records=3, node="n 1") == (
        'level=info message="set aside" action=quarantine records=3 node="n 1"'
    )


def failure(text: str) -> tuple[type[ValueError], ValueError, TracebackType | None]:
    """What a handler of an exception has in its hands."""

    def fail() -> None:
        raise ValueError(text)

    try:
        fail()
    except ValueError as error:
        return ValueError, error, error.__traceback__
    raise AssertionError


@pytest.mark.parametrize("foreign", ["a\nlevel=error", "a\x1b[31m", "a\x00", 'a" b="c', "\u2028"])
def test_a_foreign_string_forges_neither_line_nor_field(foreign: str) -> None:
    """It stays one quoted value."""
    text = line("event", job=foreign)
    assert text.isprintable()
    assert text.startswith('level=info message=event job="')
    assert text.endswith('"')
    assert text.count(" b=") == 0 or '\\"' in text


@pytest.mark.parametrize(
    "text",
    [
        "no postgresql://u:secret@h/d",
        "conninfo host=h password=secret user=u",
        "conninfo password = 'secret' user=u",
    ],
)
def test_a_password_is_not_written(text: str) -> None:
    """Not in a message, a field or a traceback."""
    assert "secret" not in line(text)
    assert "secret" not in line("event", error=text)
    formatted = line("event", exc_info=failure(text))
    assert "***" in formatted
    assert "secret" not in formatted


def test_a_traceback_is_indented_below_its_line() -> None:
    """With control characters shown."""
    lines = line("event", exc_info=failure("a\x1b")).splitlines()
    assert lines[0] == "level=info message=event"
    assert all(each.startswith("  ") for each in lines[1:])
    assert lines[-1] == "  ValueError: a\\x1b"


def test_configure_sets_the_level_and_one_handler(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Called again, it does not log twice; a line of a request names it."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    before = root.level
    try:
        configure("warning")
        configure("warning")
        logging.getLogger("any").info("unheard")
        logging.getLogger("any").warning("heard")
        outside = REQUEST_ID.set("run-7")
        logging.getLogger("any").warning("within")
        REQUEST_ID.reset(outside)
        logging.getLogger("any").warning("after")
        logging.getLogger("grpc._cython.cygrpc").error("ExecuteBatchError raised by %s", "one")
    finally:
        root.setLevel(before)
    heard, within, after = capsys.readouterr().err.splitlines()
    assert within.endswith("message=within request_id=run-7")
    assert "request_id" not in heard + after
