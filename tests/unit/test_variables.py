"""What agent and aggregator, which share no code, say of each other's environment."""

from dataclasses import fields

from agent import variables as of_agent
from agent.settings import AgentSettings
from aggregator import variables as of_aggregator
from aggregator.settings import Settings


def test_each_knows_the_sections_of_the_other() -> None:
    """A variable of the one is no mistake in the environment of the other."""
    sections = [
        field.name for field in fields(AgentSettings) if field.name not in {"source", "root"}
    ]
    assert sorted(of_aggregator.AGENT_SECTIONS) == sorted(sections)
    assert sorted(of_agent.AGGREGATOR_SECTIONS) == sorted(Settings.model_fields)


def test_both_know_the_variables_of_no_section() -> None:
    """Those of `make run`, of the command, and of a job."""
    assert set(of_agent.OUTSIDE_SECTIONS) == set(of_aggregator.OUTSIDE_SECTIONS)
