"""SQL is found by name, and a mistake is found at start."""

import pytest

from aggregator.store.queries import parse, queries, query


def test_a_file_is_split_at_its_headers() -> None:
    """What stands before the first is commentary."""
    text = "-- A file.\n\n-- name: get_x\nSELECT 1;\n\n-- name: list_y\n-- Why.\nSELECT 2;\n"
    assert list(parse(text)) == [("get_x", "SELECT 1;"), ("list_y", "-- Why.\nSELECT 2;")]


def test_what_queries_share_is_written_once() -> None:
    """A fragment is no query; one that is missing is an error."""
    text = "-- fragment: ours\nx = 1\n-- name: get_x\nSELECT WHERE <<ours>> AND y;\n"
    assert list(parse(text)) == [("get_x", "SELECT WHERE x = 1 AND y;")]
    with pytest.raises(KeyError):
        list(parse("-- name: get_x\nSELECT <<theirs>>;"))


def test_a_query_is_bytes_that_psycopg_takes_as_they_are() -> None:
    """No string is ever made into a query."""
    assert isinstance(query("copy_usage"), bytes)


def test_a_name_that_is_not_there_is_an_error() -> None:
    """When the module that wants it is imported."""
    with pytest.raises(KeyError):
        query("drop_everything")


def test_every_query_is_named_by_a_verb() -> None:
    """As STYLE has it: verb_object."""
    assert all("_" in name for name in queries())
