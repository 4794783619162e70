"""The property of the worlds is worth something: it finds out raters that break a rule."""

import os

import pytest

from aggregator.rater import RaterError
from aggregator.rerater import RerateError
from tests.integration.aggregator.rater.mutants import LONG, SHORT, Mutant
from tests.integration.aggregator.rater.worlds import DifferenceError, play

TRIED = SHORT + (LONG if os.environ.get("MUTANTS") == "all" else ())
WORLDS = [
    *((seed, 40) for seed in range(1, 3)),
    *((seed, 2) for seed in range(3, 30)),
    *((seed, 1) for seed in range(30, 60)),
    *((seed, 40) for seed in range(60, 72)),
]
"""Seeds, and how many timelines: in a crowd every minute is some price's boundary."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", TRIED, ids=lambda mutant: mutant.name)
async def test_a_broken_rule_is_found_out(
    database_url: str, monkeypatch: pytest.MonkeyPatch, mutant: Mutant
) -> None:
    """By one of some worlds."""
    mutant.apply(monkeypatch)
    found: list[str] = []
    for seed, timelines in WORLDS:
        try:
            await play(database_url, seed, timelines)
        except (DifferenceError, RaterError, RerateError) as error:
            found.append(str(error))
            break
    assert found, f"nothing told that: {mutant.name}"
