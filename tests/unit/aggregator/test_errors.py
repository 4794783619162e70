"""What operators read never holds a password."""

import pytest

from aggregator.errors import DatabaseAuthError, DatabaseUrlError, redact


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql:///d?host=/run", "postgresql:///d?host=/run"),
        ("postgresql://u:se%40cret@[::1]:1/d", "postgresql://u:***@[::1]:1/d"),
        ("postgresql://h/d?password=secret", "postgresql://h/d?***"),
        ("host=h password=secret", "(a connection string)"),
        ("postgresql://u:secret@[bad", "(a malformed URL)"),
        ("embedde", "embedde"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    """Whatever its shape; where it points stays visible."""
    assert redact(url) == shown


def test_messages_about_a_url_do_not_hold_its_password() -> None:
    """Neither ours nor what a library said of it."""
    url = "postgresql://u:secret@h/d"
    for error in (DatabaseUrlError(url), DatabaseAuthError(url, "no")):
        assert "secret" not in str(error)
