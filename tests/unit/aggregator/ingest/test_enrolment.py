"""Who brings wrong tokens has to wait."""

from aggregator.ingest.enrolment import Throttle


def test_a_host_that_is_refused_ten_times_is_shut_out_for_a_minute() -> None:
    """From whichever port; no other host is."""
    now = 100.0
    throttle = Throttle(lambda: now)
    for port in range(10):
        assert not throttle.is_shut("ipv4:192.0.2.7:1")
        throttle.refuse(f"ipv4:192.0.2.7:{port}")
    assert throttle.is_shut("ipv4:192.0.2.7:99")
    assert not throttle.is_shut("ipv4:192.0.2.8:99")
    now += 60
    assert not throttle.is_shut("ipv4:192.0.2.7:99")
    throttle.refuse("ipv4:192.0.2.7:1")
    assert not throttle.is_shut("ipv4:192.0.2.7:99")


def test_what_is_remembered_of_refusals_is_bounded() -> None:
    """However many hosts there are."""
    throttle = Throttle(lambda: 0.0)
    for number in range(20_000):
        throttle.refuse(f"ipv4:10.0.{number}:1")
    assert len(throttle._refused) <= 10_000
