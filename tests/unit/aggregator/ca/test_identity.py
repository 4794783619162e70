"""Who a certificate says its bearer is."""

from datetime import UTC, datetime, timedelta

import pytest

from aggregator.ca.identity import Bearer, IdentityError, check_node, check_time, node_of

START = datetime(2026, 1, 1, tzinfo=UTC)
END = START + timedelta(days=7)


def bearer(*uris: str, common_name: str = "node-1") -> Bearer:
    return Bearer(serial="1f", common_name=common_name, uris=uris, not_before=START, not_after=END)


def test_the_only_uri_names_the_node() -> None:
    """Whatever the common name says."""
    named = bearer("spiffe://nodemeter/node/gpu-7.example.org", common_name="another")
    assert node_of(named, "nodemeter") == "gpu-7.example.org"


@pytest.mark.parametrize(
    ("uris", "words"),
    [
        ((), "names 'node-1' as common name only: it must have exactly one URI"),
        (("spiffe://nodemeter/node/a", "spiffe://nodemeter/node/b"), "has 2 URIs"),
        (("spiffe://nodemeter/node/a", "https://example.org"), "has 2 URIs"),
        (("spiffe://other/node/a",), "is of spiffe://other/node/a, which is not"),
        (("spiffe://nodemeter/node/",), "which is not spiffe://nodemeter/node/<id>"),
        (("spiffe://nodemeter/node/a/b",), "which is not"),
        (("spiffe://nodemeter/node/..",), "which is not"),
        (("spiffe://nodemeter/node/a\n",), "which is not"),
        (("spiffe://nodemeter",), "which is not"),
    ],
)
def test_anything_else_names_nobody(uris: tuple[str, ...], words: str) -> None:
    """No fallback, no choice."""
    with pytest.raises(IdentityError) as caught:
        node_of(bearer(*uris), "nodemeter")
    assert words in str(caught.value)


def test_a_certificate_without_any_name_is_said_to_have_none() -> None:
    """Rather than an empty pair of quotes."""
    with pytest.raises(IdentityError, match="the certificate names nobody: it must"):
        node_of(bearer(common_name=""), "nodemeter")


def test_a_certificate_holds_from_its_start_until_just_before_its_end() -> None:
    """Both limits are told with the instant."""
    check_time(bearer(), START)
    check_time(bearer(), END - timedelta(microseconds=1))
    with pytest.raises(IdentityError, match="has expired, at 2026-01-08T00:00:00Z"):
        check_time(bearer(), END)
    with pytest.raises(IdentityError, match="not yet valid, only from 2026-01-01T00:00:00Z"):
        check_time(bearer(), START - timedelta(microseconds=1))


def test_a_message_speaks_of_the_bearer() -> None:
    """Names are compared to the letter."""
    check_node("node-1", "node-1")
    with pytest.raises(IdentityError, match="it names node-1, the agent says that it is Node-1"):
        check_node("node-1", "Node-1")
