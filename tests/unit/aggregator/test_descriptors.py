"""What the system grants is shared out so that nobody can take the last descriptor."""

import pytest

from aggregator.descriptors import MAX_AGENTS, MAX_REQUESTERS, shares


@pytest.mark.parametrize("descriptors", [1_024, 4_096, 20_000, 65_536, 1 << 20])
def test_there_is_always_something_left_for_the_rest(descriptors: int) -> None:
    """The database's connections, files and what listens."""
    room = shares(descriptors)
    assert descriptors - room.agent_connections - room.requesters >= 128
    assert 0 < room.agents < room.agent_connections


def test_there_are_no_more_than_we_have_memory_for() -> None:
    """However many the system grants."""
    room = shares(1 << 20)
    assert (room.agents, room.requesters) == (MAX_AGENTS, MAX_REQUESTERS)


def test_ten_thousand_agents_fit_into_what_systems_grant() -> None:
    """The unit asks for 65,536, containers often grant 20,000."""
    assert shares(20_000).agents > 10_000
