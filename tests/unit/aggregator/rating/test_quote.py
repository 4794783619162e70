"""Claims about quotes: what a job would cost by the rules of rating."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from aggregator.model import Method, RatioId, ResourceType
from aggregator.rating.quote import Wanted, quote, total
from aggregator.rating.rate import MethodVersion, RatioVersion
from aggregator.rating.ratio import parse
from aggregator.units import DEVICE_UNITS

NOON = datetime(2026, 2, 6, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
METHODS = [MethodVersion(type=each, method=Method.EFFECTIVE) for each in ResourceType]


def version(
    key: str, value: str, start: datetime = NOON, end: datetime | None = None, number: int = 1
) -> RatioVersion:
    """A price."""
    return RatioVersion(
        ratio_id=RatioId(number),
        key=parse(key),
        value=Decimal(value),
        starts_at=start,
        ends_at=end,
    )


def gpus(count: int, model: str | None = "NVIDIA H200", vc: str = "vc1") -> Wanted:
    """Whole devices."""
    return Wanted(type=ResourceType.GPU, model=model, vc=vc, quantity=count * DEVICE_UNITS)


def test_a_quote_is_quantity_times_hours_times_price() -> None:
    """The most specific key wins."""
    prices = [version("gpu", "1"), version("gpu:NVIDIA H200", "2.5", number=2)]
    line = quote(gpus(4), NOON, NOON + 12 * HOUR, prices, METHODS)
    assert (line.usage, line.fee) == (48, 120)
    assert [part.version for part in line.parts] == [prices[1]]


def test_a_price_that_changes_while_it_runs_prices_its_part() -> None:
    """1 then 2 at half past: 1.5 for the hour, as the bill would be."""
    half = NOON + HOUR / 2
    prices = [version("gpu", "1", end=half), version("gpu", "2", half, number=2)]
    line = quote(gpus(1), NOON, NOON + HOUR, prices, METHODS)
    assert line.fee == 1.5
    assert [(part.started_at, part.ended_at) for part in line.parts] == [
        (NOON, half),
        (half, NOON + HOUR),
    ]


def test_what_has_no_price_has_no_fee_and_there_is_no_total() -> None:
    """Never zero; a price of zero is one."""
    free = quote(gpus(1), NOON, NOON + HOUR, [version("gpu", "0")], METHODS)
    assert (free.fee, total([free])) == (0, 0)
    none = quote(gpus(1), NOON, NOON + HOUR, [version("gpu:A100", "1")], METHODS)
    part = quote(gpus(1), NOON - HOUR, NOON + HOUR, [version("gpu", "1")], METHODS)
    for line in (none, part):
        assert line.fee is None
        assert total([free, line]) is None


def test_a_total_is_the_exact_sum_rounded_once() -> None:
    """Of lines in different units."""
    prices = [version("gpu", "0.1"), version("mem", "0.2", number=2)]
    memory = Wanted(type=ResourceType.MEM, model=None, vc="v", quantity=1024)
    lines = [quote(wanted, NOON, NOON + HOUR, prices, METHODS) for wanted in (gpus(1), memory)]
    assert [line.exact for line in lines] == [Fraction(1, 10), Fraction(1, 5)]
    assert total(lines) == 0.3
