"""Claims about how often somebody may ask."""

from dataclasses import dataclass

from aggregator.api.limits import RateLimit


@dataclass(slots=True)
class Clock:
    """Stands still until it is moved."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_worth_may_come_at_once_and_then_as_it_comes_back() -> None:
    """Sixty at once, then one a second; each answer tells what is left."""
    clock = Clock()
    limit = RateLimit(60, clock=clock)
    remaining = [limit.take("a").remaining for _ in range(60)]
    assert remaining == list(range(59, -1, -1))
    refused = limit.take("a")
    assert (refused.is_allowed, refused.remaining, refused.retry_seconds) == (False, 0, 1)
    assert refused.reset_seconds == 60
    clock.now += 1
    assert limit.take("a").is_allowed
    assert not limit.take("a").is_allowed
    clock.now += 3600
    assert limit.take("a").remaining == 59


def test_what_is_refused_is_not_counted() -> None:
    """Whoever goes on asking is not shut out for longer."""
    clock = Clock()
    limit = RateLimit(2, clock=clock)
    for _ in range(100):
        limit.take("a")
    clock.now += 30
    assert limit.take("a").is_allowed


def test_to_look_is_not_to_ask() -> None:
    """It says what the next would be told."""
    limit = RateLimit(1, clock=Clock())
    assert [limit.look("a").is_allowed for _ in range(3)] == [True] * 3
    limit.take("a")
    assert not limit.look("a").is_allowed


def test_each_key_has_its_own() -> None:
    """Nobody asks at another's cost."""
    limit = RateLimit(1, clock=Clock())
    assert [limit.take(key).is_allowed for key in "aab"] == [True, False, True]


def test_memory_is_bounded_whoever_asks() -> None:
    """Who asked longest ago is forgotten first."""
    limit = RateLimit(1, max_keys=10, clock=Clock())
    for key in range(1000):
        limit.take(key)
    assert len(limit) == 10
    assert not limit.look(999).is_allowed
    assert limit.look(0).is_allowed


def test_zero_is_no_limit() -> None:
    """Nothing is kept."""
    limit = RateLimit(0, clock=Clock())
    assert all(limit.take("a").is_allowed for _ in range(1000))
    assert len(limit) == 0
