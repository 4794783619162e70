"""Names that follow from keys are the same for ever, and differ where the keys differ."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from aggregator.clock import from_ms, to_ms, utc_now
from aggregator.model import Period, ResourceType, bill_id, meter_uid, user_id
from aggregator.units import MS_PER_HOUR, UNITS


def item(
    *,
    node: str = "n",
    run_key: str = "r",
    type_: str = "gpu",
    model: str = "m",
    group_quota: int = 1,
    started_at_ms: int = 2,
) -> UUID:
    """An item's id with some part of the key changed."""
    return bill_id(
        node=node, run_key=run_key, type_=type_, model=model, group_quota=group_quota,
        started_at_ms=started_at_ms,
    )  # fmt: skip


def test_an_items_id_never_changes() -> None:
    """These are in people's books."""
    assert str(item()) == "da586335-3295-5efc-a288-a4f16bd0d40a"
    assert str(user_id("c1", "alice")) == "68de8ca4-bc72-5548-b8a4-cf6a063673ff"
    assert item().version == 5


def test_every_part_of_the_key_counts() -> None:
    """And none runs into its neighbour."""
    changed = [
        item(node="x"),
        item(run_key="x"),
        item(type_="npu"),
        item(model="x"),
        item(group_quota=9),
        item(started_at_ms=9),
        item(node="nr", run_key=""),
    ]
    assert len({item(), *changed}) == len(changed) + 1
    assert user_id("a", "bc") != user_id("ab", "c")


def test_a_missing_model_is_not_an_empty_one() -> None:
    """Unknown is None, never ""."""
    ids = {
        meter_uid(
            node="n", run_key="r", type_="cpu", model=model, device=device, quota=1,
            group_quota=1, started_at_ms=1,
        )
        for model in (None, "", "null")
        for device in (None, "", "null")
    }  # fmt: skip
    assert len(ids) == 9


def test_devices_can_be_cut_without_remainder() -> None:
    """MIG slices, vNPU fractions, per cent."""
    unit = UNITS[ResourceType.GPU]
    assert all(unit.base_units % parts == 0 for parts in (7, 8, 9, 16, 1000))
    assert UNITS.keys() == set(ResourceType)
    assert UNITS[ResourceType.MEM].unit_hour == 1024 * MS_PER_HOUR


def test_instants_survive_milliseconds() -> None:
    """Exactly, and aware; what is finer is rounded down."""
    instant = datetime(2026, 2, 6, 12, 0, 0, 123_000, tzinfo=UTC)
    assert from_ms(to_ms(instant)) == instant
    assert to_ms(instant.replace(microsecond=123_999)) == to_ms(instant)
    assert to_ms(from_ms(-1)) == -1
    assert utc_now().tzinfo is UTC


def test_a_period_runs_forward_between_aware_instants() -> None:
    """Half-open, so it may be empty."""
    noon = datetime(2026, 2, 6, 12, tzinfo=UTC)
    Period(start=noon, end=noon)
    with pytest.raises(ValueError, match="ends before"):
        Period(start=noon, end=from_ms(0))
    with pytest.raises(ValueError, match="time zone"):
        Period(start=noon.replace(tzinfo=None), end=noon)
