"""Log lines: one event is one line, whatever stands in it."""

import logging

import pytest

from agent.log import KeyValueFormatter, configure


def line(message: str, **extra: object) -> str:
    record = logging.makeLogRecord({"msg": message, "levelname": "WARNING", "created": 0, **extra})
    return KeyValueFormatter().format(record)


def test_an_event_is_a_message_with_fields() -> None:
    """Plain values stand bare, others quoted."""
    text = line("a job file cannot be used", action="refuse_job_file", file="/run/a b.json", n=3)
    assert ' level=warning message="a job file cannot be used" action=refuse_job_file ' in text
    assert text.endswith('file="/run/a b.json" n=3')


@pytest.mark.parametrize("value", ["a\nlevel=error", "a\x1b[31m", "x=1 action=pay", "\u2028", '"'])
def test_a_foreign_value_forges_neither_line_nor_field(value: str) -> None:
    """Control characters are escaped; spaces and equals signs are inside quotes."""
    text = line("refused", action="refuse", job=value)
    assert text.isprintable()
    assert text.partition(" job=")[2].startswith('"')
    assert text.endswith('"')


def test_a_traceback_is_indented() -> None:
    """Its lines cannot be taken for events, nor the exception's text for a terminal's."""
    with pytest.raises(ValueError, match="two") as caught:
        int("two\nlines\x1b[31m")
    text = line("failed", exc_info=(caught.type, caught.value, caught.tb))
    head, *rest = text.splitlines()
    assert "message=failed" in head
    assert rest
    assert all(each.startswith("  ") and each.isprintable() for each in rest)


def test_the_level_is_a_threshold(capsys: pytest.CaptureFixture[str]) -> None:
    """Less important events are not written."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        configure("warning")
        logging.getLogger("agent.x").info("quiet")
        logging.getLogger("agent.x").warning("loud", extra={"action": "shout"})
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
    err = capsys.readouterr().err
    assert "quiet" not in err
    assert "message=loud action=shout" in err
