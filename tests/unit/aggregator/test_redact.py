"""What operators read of a URL never holds its password."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.redact import redact


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql://u:se%40cret@[::1]:1/d", "postgresql://u:***@[::1]:1/d"),
        ("postgresql://u:secret@h1:1,h2/d", "postgresql://u:***@h1:1,h2/d"),
        ("postgresql://u:se:cr@et@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql:///d?host=/run", "postgresql:///d?host=/run"),
        ("postgresql://h/d?password=secret", "postgresql://h/d?***"),
        ("postgresql://h/d?p%61ssword=secret", "postgresql://h/d?***"),
        ("postgresql://h/d?pasword=secret", "postgresql://h/d?***"),
        ("host=h user=u password=secret", "host=h user=u"),
        ("pasword=secret dbname=d", "dbname=d"),
        ("embedde", "embedde"),
        ("", ""),
    ],
)
def test_where_a_url_points_stays_visible(url: str, shown: str) -> None:
    """All that is known to be harmless."""
    assert redact(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgres//nm:secret@db/nm",
        "postgresql:nm:secret@db",
        "postgresql:/nm:secret@db",
        "postgresql://nm:secret/db",
        "postgresql://nm:se/cret@h/d",
        "postgresql://nm:1/secret@h/d",
        "postgresql://nm:1?secret@h/d",
        "postgresql://nm:1#secret@h/d",
        "postgresql://nm:1#secret%40h/d",
        "postgresql://u:secret@[bad",
        "password='a host=secret'",
        "password=a\\ host=secret",
        "nm:secret",
        "x=secret",
    ],
)
def test_in_doubt_nothing_is_shown(url: str) -> None:
    """The shapes that slips of the pen have."""
    assert redact(url) in {"(a connection string)", "(a malformed URL)"}


@given(st.text(max_size=20), st.text(max_size=5), st.sampled_from(["postgresql://", "postgres//"]))
def test_no_shape_shows_a_password(password: str, end: str, start: str) -> None:
    """Whatever characters it has that ought to be encoded; none are made up, either."""
    assert "pa55w0rd" not in redact(f"{start}nm:pa55w0rd{password}@db/nm{end}")
    assert "pa55w0rd" not in redact(f"{start}nm:{password}pa55w0rd@db/nm{end}")
