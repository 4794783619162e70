"""Claims about which dialect answers where."""

from dataclasses import replace

import pytest

from aggregator.api.dialect import NATIVE, Dialects

PODS = replace(NATIVE, name="pods", prefixes=("/v1/billing/pods",))
HOURLY = replace(NATIVE, name="hourly", prefixes=("/v1/billing/usage", "/v1/teams"))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/billing/pods", "pods"),
        ("/V1/Billing/Pods/", "pods"),
        ("/v1/billing/pods/x", "pods"),
        ("/v1/billing/podsx", "native"),
        ("/v1/billing/usage/1700000000", "hourly"),
        ("/v1/teams/t/billing/usage", "hourly"),
        ("/v1", "native"),
        ("/api/Bills", "native"),
        ("/", "native"),
        ("", "native"),
    ],
)
def test_the_longest_prefix_decides(path: str, name: str) -> None:
    """By whole parts of the path, in any case."""
    assert Dialects([PODS, HOURLY]).of(path).name == name


def test_two_dialects_cannot_share_a_prefix() -> None:
    """Found at the start."""
    with pytest.raises(ValueError, match="one prefix"):
        Dialects([PODS, replace(HOURLY, prefixes=PODS.prefixes)])
