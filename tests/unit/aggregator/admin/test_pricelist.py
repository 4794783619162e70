"""Claims about price lists as files, and about prices as people say them."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.admin.errors import UsageError
from aggregator.admin.pricelist import Kind, kind_of, read, write
from aggregator.admin.prices import PriceWordsError, said, to_value
from aggregator.rating.price import PER, checked
from aggregator.rating.ratio import why_unstorable

KEYS = st.text(min_size=1, max_size=30).filter(lambda text: why_unstorable(text) is None)
VALUES = st.decimals(0, 10**12, allow_nan=False, allow_infinity=False).map(checked)
PRICES = st.dictionaries(KEYS, VALUES, max_size=8)


@given(PRICES, st.sampled_from(Kind))
def test_reading_inverts_writing(prices: dict[str, Decimal], kind: Kind) -> None:
    """Keys of any characters, values to the last digit."""
    assert read(write(prices, kind), kind, "list") == prices


def test_a_list_may_say_its_units() -> None:
    """Per core-hour and the like, converted exactly; blank is the API's own unit."""
    text = "key,value,per\ncpu,0.03,core-hour\nmem@vc1,1,GiB-hour\ngpu, 2 ,\n\ntokens,7,\n"
    assert read(text, Kind.CSV, "p.csv") == {
        "cpu": Decimal("0.00003"),
        "mem@vc1": Decimal("0.0009765625"),
        "gpu": Decimal(2),
        "tokens": Decimal(7),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "p.csv, line 1: the header"),
        ("key;value\n", "p.csv, line 1: the header"),
        ("key,value,note\n", "p.csv, line 1: the header"),
        ("key,key,value\n", "p.csv, line 1: the header"),
        ("key,value\ncpu\n", "p.csv, line 2: has 1 columns, the header has 2"),
        ("key,value\ncpu,1\nmem,x\n", "p.csv, line 3, column value: 'x' is no number"),
        ("key,value\ncpu,-1\n", "p.csv, line 2, column value: must be 0 or more"),
        ("key,value\ncpu,1e99\n", "p.csv, line 2, column value: must be less than"),
        ("key,value\ncpu,NaN\n", "p.csv, line 2, column value: 'NaN' is no number"),
        ('key,value\ncpu,"1,5"\n', "p.csv, line 2, column value: '1,5' is no number"),
        ("key,value\n,1\n", "p.csv, line 2, column key: must not be empty"),
        ("key,value\ncpu,1\ncpu,1\n", "p.csv, line 3, column key: 'cpu' is given twice"),
        ("key,value,per\ncpu,1,GiB-hour\n", "p.csv, line 2, column per: 'cpu' is priced per core"),
        ("key,value,per\ncpu,1,hour\n", "p.csv, line 2, column per: 'hour' is none of core-hour"),
        ("key,value,per\nx,1,core-hour\n", "p.csv, line 2, column per: 'x' is the key of no"),
        ('key,value\n"cpu,1\n', "p.csv, line 2: unexpected end of data"),
    ],
)
def test_a_fault_in_csv_names_its_line_and_column(text: str, message: str) -> None:
    """And what is wrong there."""
    with pytest.raises(UsageError) as raised:
        read(text, Kind.CSV, "p.csv")
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "p.json, line 1, column 2"),
        ("[]", "p.json: must be an object"),
        ("7", "p.json: must be an object"),
        ("[" * 100_000, "p.json: is nested too deeply"),
        ('{"cpu": "x"}', "p.json, key 'cpu', column value: 'x' is no number"),
        ('{"cpu": null}', "p.json, key 'cpu': the value must be a number"),
        ('{"cpu": NaN}', "p.json, key 'cpu': the value must be a number"),
        ('{"cpu": {"a": 1}}', "p.json, key 'cpu': the value must be a number"),
        ('{"cpu": 1, "cpu": 2}', "p.json, key 'cpu', column key: 'cpu' is given twice"),
    ],
)
def test_a_fault_in_json_names_its_key(text: str, message: str) -> None:
    """Or its place, where it is no JSON."""
    with pytest.raises(UsageError) as raised:
        read(text, Kind.JSON, "p.json")
    assert str(raised.value).startswith(message)


def test_the_name_of_a_file_tells_its_kind() -> None:
    """CSV unless it says JSON."""
    assert [kind_of(name) for name in ("a.csv", "A.JSON", "-", "json")] == [
        Kind.CSV,
        Kind.JSON,
        Kind.CSV,
        Kind.CSV,
    ]


@given(st.decimals(0, 10**9, places=6), st.sampled_from(["cpu", "mem", "gpu:X@y"]))
def test_a_price_is_listed_as_it_was_set(price: Decimal, key: str) -> None:
    """Through the value that is stored, in the same unit."""
    per = {"cpu": "core-hour", "mem": "GiB-hour", "gpu:X@y": "device-hour"}[key]
    text, unit = said(key, to_value(key, str(price), per), per)
    assert (Decimal(text), unit) == (price, per)


@pytest.mark.parametrize(
    ("key", "per", "shown"),
    [
        ("cpu", None, ("0.5", "m-hour")),
        ("cpu", "GiB-hour", ("0.5", "m-hour")),
        ("cpu", "core-hour", ("500", "core-hour")),
        ("storage", None, ("0.5", "Mi-hour")),
        ("gpu", None, ("0.5", "device-hour")),
        ("tokens", "core-hour", ("0.5", None)),
    ],
)
def test_a_price_is_shown_in_the_unit_that_fits(
    key: str, per: str | None, shown: tuple[str, str | None]
) -> None:
    """In the one asked for where the type is priced so, else in the API's."""
    assert said(key, Decimal("0.5"), per) == shown


def test_a_price_that_becomes_too_large_is_refused() -> None:
    """Whatever the unit."""
    with pytest.raises(PriceWordsError, match="less than"):
        to_value("cpu", "1000000000000000000", "core-hour")
    assert sorted(PER) == ["GiB-hour", "core-hour", "device-hour"]
