"""What is refused again and again is told, and fills no log."""

from aggregator.quiet import Quiet


def test_a_matter_is_told_once_a_minute() -> None:
    """With how often it happened since; others are told at once."""
    now = 0.0
    quiet = Quiet(lambda: now)
    assert quiet.untold("10.0.0.7", "a") == 0
    assert [quiet.untold("10.0.0.7", "a") for _ in range(3)] == [None, None, None]
    assert quiet.untold("10.0.0.8", "a") == quiet.untold("10.0.0.7", "b") == 0
    now = 60.0
    assert quiet.untold("10.0.0.7", "a") == 3


def test_a_peer_that_varies_what_it_is_refused_for_fills_no_log() -> None:
    """Others are told of meanwhile, and it again in the next minute."""
    now = 0.0
    quiet = Quiet(lambda: now)
    told = [quiet.untold("10.0.0.7", f"it says that it is node-{n}") for n in range(5_000)]
    assert sum(count is not None for count in told) == 20
    assert quiet.untold("10.0.0.8", "a") == 0
    now = 60.0
    assert quiet.untold("10.0.0.7", "it says that it is node-4999") == 1
