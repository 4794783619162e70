"""Claims about what a check of the ratios finds."""

from decimal import Decimal

from aggregator.billing.audit import Author
from aggregator.billing.check import check_ratios, shadows_of
from aggregator.billing.database import Database
from aggregator.billing.ratio_changes import set_ratio
from aggregator.billing.ratio_plan import Ratio
from tests.integration.aggregator.rows import NOON, Rows

ADA = Author(actor="ada")


async def declare(database: Database, *keys: str) -> None:
    for key in keys:
        await set_ratio(database, Ratio(key=key, value=Decimal(1)), ADA)


async def test_nothing_is_wrong_with_nothing(database: Database) -> None:
    """No ratios, no usage, no findings."""
    found = await check_ratios(database)
    assert not found.matching_nothing
    assert not found.shadowed
    assert not found.unpriced


async def test_keys_that_match_nothing_are_named_with_the_reason(
    database: Database, rows: Rows
) -> None:
    """No usage type, or nothing of the kind metered so far; near misses are told."""
    rows.price_class("gpu", "NVIDIA H200")
    await declare(database, "tokens", "gpu", "gpu:NVIDIA H2OO", "npu", "npu@vc1")
    found = {idle.key: idle.reason for idle in (await check_ratios(database)).matching_nothing}
    assert found.keys() == {"tokens", "gpu:NVIDIA H2OO", "npu@vc1"}
    assert "the types are" in found["tokens"]
    assert "metered models: NVIDIA H200" in found["gpu:NVIDIA H2OO"]
    assert "so far" in found["npu@vc1"]


async def test_a_plain_price_of_a_vc_that_shadows_a_models_price_is_told(
    database: Database,
) -> None:
    """Until the model has a price in that vc."""
    await declare(database, "gpu@vc1", "gpu:NVIDIA H200", "npu:910B", "npu@vc2", "npu:910B@vc2")
    (shadow,) = (await check_ratios(database)).shadowed
    assert (shadow.key, shadow.instead_of) == ("gpu@vc1", "gpu:NVIDIA H200")
    assert shadow.remedy == "gpu:NVIDIA H200@vc1"
    assert [each.key for each in await shadows_of(database, "gpu@vc1")] == ["gpu@vc1"]
    assert [each.key for each in await shadows_of(database, "gpu:NVIDIA H200")] == ["gpu@vc1"]
    assert await shadows_of(database, "npu@vc2") == []


async def test_usage_without_a_price_is_listed_by_class(database: Database, rows: Rows) -> None:
    """With its hours, and with the key that prices it from now on, if there is one."""
    rows.price_class("cpu", "EPYC")
    rows.price_class("gpu", "NVIDIA H200", "vc1")
    rows.price_class("mem")
    rows.price_class("storage")
    rows.bill(type_="cpu", model="EPYC", billed=7_200_000, unpriced=3_600_000)
    rows.bill(type_="gpu", model="NVIDIA H200", unpriced=126_000 * 1_800_000)
    rows.bill(type_="gpu", model="NVIDIA H200", unpriced=126_000 * 1_800_000)
    await declare(database, "cpu", "mem")
    found = (await check_ratios(database)).unpriced
    assert [(u.type, u.model, u.items, u.hours, u.priced_by) for u in found] == [
        ("cpu", "EPYC", 1, 1.0, "cpu"),
        ("gpu", "NVIDIA H200", 2, 1.0, None),
        ("storage", None, 0, 0.0, None),
    ]
    assert (found[0].first_at, found[2].first_at) == (NOON, None)
    assert not any(each.is_closed for each in found)
    rows.connection.execute(
        "INSERT INTO period VALUES ('2026-02-01Z', '2026-03-01Z', now(), 'ada', NULL, '', 0, 0, 0)"
    )
    found = (await check_ratios(database)).unpriced
    assert [each.is_closed for each in found] == [True, True, False]
