"""Whose a device's utilisation is: all of an exclusive one's, of a shared one's what is known."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from agent.model import Device, DeviceShare, MeterKey, ReadingKind, ResourceType, Run, RunKey
from agent.samplers.gauges import Gauge, Gauges

NPU = ResourceType.NPU
WHOLE = 126_000
DEVICE = Device(type=NPU, id="NPU-a", model="Ascend910B2")
PART = Device(type=NPU, id="NPU-a-v100", model="Ascend910B2", units=63_000, parent="NPU-a")
DEVICES = {device.id: device for device in (DEVICE, PART)}


def run_with(
    key: str, *shares: tuple[str, int], ended_at_ms: int | None = None, type_: ResourceType = NPU
) -> Run:
    return Run(
        key=RunKey(key),
        provider="files",
        job_id=key,
        job_name=key,
        started_at_ms=0,
        ended_at_ms=ended_at_ms,
        quotas={},
        devices=tuple(
            DeviceShare(type=type_, id=name, model=None, share=share) for name, share in shares
        ),
    )


ALONE = run_with("alone", ("NPU-a", WHOLE))
LEFT, RIGHT = run_with("left", ("NPU-a", 63_000)), run_with("right", ("NPU-a", 63_000))


def used(
    gauges: Gauges, *runs: Run, workers: frozenset[RunKey] | None = None, **by_device: Gauge
) -> dict[str, int]:
    """Readings by run; a gauge by `a` or `v`."""
    names = {"a": "NPU-a", "v": "NPU-a-v100"}
    known = {names[name]: gauge for name, gauge in by_device.items()}
    readings = gauges.take(runs, DEVICES, known, lambda _device: workers)
    assert all(reading.kind is ReadingKind.AVERAGE for reading in readings.values())
    return {key.run: reading.value for key, reading in readings.items()}


def test_a_reading_is_the_mean_since_the_meters_last_one() -> None:
    """30 of 100, then 10 of 50: 30 %, 20 %."""
    gauges = Gauges(NPU)
    assert used(gauges, ALONE, a=Gauge(500, 1000)) == {}
    assert used(gauges, ALONE, a=Gauge(530, 1100)) == {"alone": 37_800}
    assert used(gauges, ALONE, a=Gauge(540, 1150)) == {"alone": 25_200}


def test_a_new_run_gets_the_newest_look() -> None:
    """What the device did before it is not its."""
    assert used(Gauges(NPU), ALONE, a=Gauge(0, 1000, (3, 4))) == {"alone": 94_500}


def test_nothing_new_is_absent_and_not_lost() -> None:
    """Two samples between two looks: the next reading covers both."""
    gauges = Gauges(NPU)
    used(gauges, ALONE, a=Gauge(0, 100))
    assert used(gauges, ALONE, a=Gauge(0, 100)) == {}
    assert used(gauges, ALONE, a=Gauge(50, 200)) == {"alone": 63_000}


def test_each_run_has_its_own_mean() -> None:
    """An event's look at one run must not eat another one's time."""
    gauges = Gauges(NPU)
    used(gauges, LEFT, RIGHT, a=Gauge(0, 100))
    gauges.forget([RIGHT.key])
    used(gauges, LEFT, a=Gauge(0, 200))
    fresh = used(gauges, LEFT, a=Gauge(100, 300))
    assert fresh == {"left": 63_000}


def test_nobody_uses_more_than_its_share() -> None:
    """Alone on the device, with half of it."""
    assert used(Gauges(NPU), LEFT, a=Gauge(0, 1, (1, 1))) == {"left": 63_000}
    assert used(Gauges(NPU), LEFT, a=Gauge(0, 1, (1, 4))) == {"left": 31_500}


def test_a_part_is_counted_in_its_own_units() -> None:
    """Half a vNPU of half a device is a quarter."""
    part = run_with("part", ("NPU-a-v100", 63_000))
    assert used(Gauges(NPU), part, v=Gauge(0, 1, (1, 2))) == {"part": 31_500}


def test_of_a_shared_device_nobodys_part_is_known() -> None:
    """Unless it is idle: then all parts are 0."""
    assert used(Gauges(NPU), LEFT, RIGHT, a=Gauge(0, 1, (1, 2))) == {}
    assert used(Gauges(NPU), LEFT, RIGHT, a=Gauge(0, 1, (0, 2))) == {"left": 0, "right": 0}


def test_who_works_alone_on_a_shared_device_has_it_all() -> None:
    """Who does not work on it has used nothing; of two who do, nothing is known."""
    half = Gauge(0, 1, (1, 4))
    only_left = frozenset({LEFT.key})
    both = frozenset({LEFT.key, RIGHT.key})
    assert used(Gauges(NPU), LEFT, RIGHT, workers=only_left, a=half) == {"left": 31_500, "right": 0}
    assert used(Gauges(NPU), LEFT, RIGHT, workers=both, a=half) == {}
    assert used(Gauges(NPU), LEFT, RIGHT, workers=frozenset[RunKey](), a=half) == {}


def test_a_look_at_some_runs_knows_of_the_others() -> None:
    """An event is about one of two that share: it is still shared, until the other is over."""
    gauges = Gauges(NPU)
    used(gauges, LEFT, RIGHT, a=Gauge(0, 100))
    assert gauges.shared() == {"NPU-a"}
    assert used(gauges, LEFT, a=Gauge(10, 200)) == {}
    ended = run_with("right", ("NPU-a", 63_000), ended_at_ms=5)
    assert used(gauges, LEFT, ended, a=Gauge(20, 300)) == {"left": 12_600}
    assert gauges.shared() == set()
    assert list(gauges.holders("NPU-a")) == ["left"]


def test_other_devices_and_unknown_ones_are_not_read() -> None:
    """A GPU is another sampler's; a device that nobody lists has no gauge."""
    gpu = run_with("gpu", ("NPU-a", WHOLE), type_=ResourceType.GPU)
    stranger = run_with("stranger", ("NPU-z", WHOLE))
    assert used(Gauges(NPU), gpu, stranger, a=Gauge(0, 1, (1, 1))) == {}


def test_two_shares_of_one_device_are_one_holding() -> None:
    """Two replicas of four: half of it, and not shared."""
    twice = run_with("twice", ("NPU-a", 31_500), ("NPU-a", 31_500))
    assert used(Gauges(NPU), twice, a=Gauge(0, 1, (1, 1))) == {"twice": 63_000}


def test_forgetting_a_run_forgets_its_readings() -> None:
    """The next one of that name begins anew."""
    gauges = Gauges(NPU)
    used(gauges, ALONE, a=Gauge(0, 100))
    gauges.forget([ALONE.key, RunKey("unknown")])
    assert not gauges.holders("NPU-a")
    assert used(gauges, ALONE, a=Gauge(50, 200)) == {}
    used(gauges, run_with("alone", ("NPU-a", WHOLE), ended_at_ms=5), a=Gauge(60, 300))
    gauges.forget([ALONE.key])
    assert used(gauges, ALONE, a=Gauge(90, 400)) == {}


@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(1, 60_000)), min_size=1),
    st.sets(st.integers(0, 50)),
)
def test_means_add_up_to_the_whole(looks: list[tuple[int, int]], skipped: set[int]) -> None:
    """Whatever is read when: nothing is added to what the device did, and next to nothing lost."""
    gauges = Gauges(NPU)
    busy = observed = total = since = readings = 0
    used(gauges, ALONE, a=Gauge(0, 0))
    for at, (percent, length) in enumerate(looks):
        busy, observed = busy + percent * length, observed + 100 * length
        if at in skipped and at < len(looks) - 1:
            continue
        value = used(gauges, ALONE, a=Gauge(busy, observed))["alone"]
        total += value * (observed - since)
        since, readings = observed, readings + 1
    exact = WHOLE * busy
    assert exact - observed < total <= exact


def test_meters_are_named_by_the_device() -> None:
    """The id of the inventory, and the sampler's type."""
    readings: Mapping[MeterKey, object] = Gauges(NPU).take(
        [ALONE], DEVICES, {"NPU-a": Gauge(0, 1, (1, 1))}
    )
    assert list(readings) == [MeterKey(ALONE.key, NPU, "NPU-a")]
