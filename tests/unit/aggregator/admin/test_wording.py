"""Claims about what the API refuses, as the command says it."""

import pytest

from aggregator.admin.wording import in_words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("startsAt: must be in the future", "--from must be in the future"),
        ("key: is not known; reason: must not be empty",
         "the key is not known; --reason must not be empty"),
        ("currency: 'XYZ' is no known currency", "the currency: 'XYZ' is no known currency"),
        ("ifMatch: the ratios changed since: look again",
         "nothing was applied: the ratios changed since: look again"),
        ("scheduled[0].value: must be a number", "scheduled[0].value: must be a number"),
        ("no agent answers at x: try again", "no agent answers at x: try again"),
        ("keys: none", "keys: none"),
    ],
)  # fmt: skip
def test_a_property_is_said_as_its_option(text: str, said: str) -> None:
    """At the beginning of a reason, and nowhere else."""
    assert in_words(text) == said
