"""What operators read never holds a password."""

from aggregator.errors import DatabaseAuthError, DatabaseUrlError


def test_messages_about_a_url_do_not_hold_its_password() -> None:
    """Neither ours nor what a library said of it."""
    url = "postgresql://u:secret@h/d"
    for error in (DatabaseUrlError(url), DatabaseAuthError(url, "no")):
        assert "secret" not in str(error)
