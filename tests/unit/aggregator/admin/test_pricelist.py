"""Claims about price lists as files, and about prices as people say them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.admin.errors import UsageError
from aggregator.admin.pricelist import Price, kind_of, read, write
from aggregator.admin.pricelist_entry import Kind
from aggregator.admin.prices import PriceWordsError, said, to_value
from aggregator.rating.price import PER, checked
from aggregator.rating.ratio import why_unstorable

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
KEYS = st.text(min_size=1, max_size=30).filter(lambda text: why_unstorable(text) is None)
VALUES = st.decimals(0, 10**12, allow_nan=False, allow_infinity=False).map(checked)


@st.composite
def price_lists(draw: st.DrawFn) -> list[Price]:
    """Prices by key and start, in force or scheduled, that do not overlap."""
    listed: list[Price] = []
    for key in sorted(draw(st.sets(KEYS, max_size=5))):
        starts = draw(st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True).map(sorted))
        for number, hours in enumerate(starts):
            start = NOON + timedelta(hours=hours)
            is_first = number == 0 and draw(st.booleans())
            end = start + timedelta(minutes=30) if draw(st.booleans()) else None
            price = Price(key=key, value=draw(VALUES), start=None if is_first else start, end=end)
            listed.append(price)
    return listed


@given(price_lists(), st.sampled_from(Kind))
def test_reading_inverts_writing(prices: list[Price], kind: Kind) -> None:
    """Keys of any characters, values to the last digit, ranges."""
    assert read(write(prices, kind), kind, "list") == prices


def test_a_list_of_bare_prices_is_written_as_simply_as_may_be() -> None:
    """So that it can be read and edited."""
    prices = [Price(key="cpu", value=Decimal("0.00003")), Price(key="no", value=Decimal(2))]
    assert write(prices, Kind.CSV) == "key,value\r\ncpu,0.00003\r\nno,2\r\n"
    assert write(prices, Kind.JSON) == '{\n  "cpu": 0.00003,\n  "no": 2\n}\n'
    assert write(prices, Kind.YAML) == "cpu: 0.00003\n'no': 2\n"


def simple(text: str, kind: Kind) -> dict[str, Decimal]:
    return {price.key: price.value for price in read(text, kind, "p")}


def test_a_list_may_say_its_units() -> None:
    """Per core-hour and the like, converted exactly; blank is the API's own unit."""
    expected = {
        "cpu": Decimal("0.00003"),
        "mem@vc1": Decimal("0.0009765625"),
        "gpu": Decimal(2),
        "tokens": Decimal(7),
    }
    text = "key,value,per\ncpu,0.03,core-hour\nmem@vc1,1,GiB-hour\ngpu, 2 ,\n\ntokens,7,\n"
    assert simple(text, Kind.CSV) == expected
    assert simple(text.replace("\n", "\r\n"), Kind.CSV) == expected
    text = (
        "cpu: {value: 0.03, per: core-hour}\n"
        "mem@vc1:\n  value: '1'  # per GiB\n  per: GiB-hour\n"
        "gpu: 2\ntokens: !!str 7\n"
    )
    assert simple(text.replace("!!str ", ""), Kind.YAML) == expected
    text = (
        '{"cpu": {"value": 0.03, "per": "core-hour"}, "gpu": "2", "tokens": 7,'
        ' "mem@vc1": [{"value": 1, "per": "GiB-hour"}]}'
    )
    assert simple(text, Kind.JSON) == expected


def test_a_list_may_say_when_a_price_holds() -> None:
    """An increase, and a sale; any offset is honoured."""
    expected = [
        Price(key="gpu", value=Decimal(2)),
        Price(key="gpu", value=Decimal(3), start=NOON),
        Price(
            key="gpu",
            value=Decimal(1),
            start=NOON + timedelta(days=1),
            end=NOON + timedelta(days=2),
        ),
    ]
    csv = (
        "key,value,from,to\ngpu,3,2026-12-01T12:00:00Z,\ngpu,2,,\n"
        "gpu,1,2026-12-02T14:00+02:00,2026-12-03T12:00:00Z\n"
    )
    assert read(csv, Kind.CSV, "p.csv") == expected
    text = """
gpu:
  - value: 2
  - {value: 3, from: 2026-12-01T12:00:00Z}
  - {value: 1, from: 2026-12-02T12:00:00Z, to: 2026-12-03T12:00:00Z}
"""
    assert read(text, Kind.YAML, "p.yaml") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "p.csv, line 1: the header"),
        ("key;value\n", "p.csv, line 1: the header"),
        ("key,value,note\n", "p.csv, line 1: the header"),
        ("key,key,value\n", "p.csv, line 1: the header"),
        ("key,value\ncpu\n", "p.csv, line 2: has 1 columns, the header has 2"),
        ("key,value\ncpu,1,234.5\n", "p.csv, line 2: has 3 columns, the header has 2"),
        ("key,value\ncpu,1\nmem,x\n", "p.csv, line 3, column value: 'x' is no number"),
        ("key,value\ncpu,-1\n", "p.csv, line 2, column value: must be 0 or more"),
        ("key,value\ncpu,1e99\n", "p.csv, line 2, column value: must be less than"),
        ("key,value\ncpu,NaN\n", "p.csv, line 2, column value: 'NaN' is no number"),
        ("key,value\ncpu,\n", "p.csv, line 2, column value: '' is no number"),
        ('key,value\ncpu,"1,5"\n', "p.csv, line 2, column value: '1,5' is no number"),
        ("key,value\ncpu,1_000\n", "p.csv, line 2, column value: '1_000' is no number"),
        ("key,value\ncpu,1\x00\n", "p.csv, line 2, column value: '1\\x00' is no number"),
        ("key,value\na\x1b[1m,1\n", "p.csv, line 2, column key: must not hold control"),
        ("key,value\n,1\n", "p.csv, line 2, column key: must not be empty"),
        ("key,value\ncpu,1\ncpu,1\n", "p.csv, line 3, column key: 'cpu' is given twice, also in"),
        ("key,value,per\ncpu,1,GiB-hour\n", "p.csv, line 2, column per: 'cpu' is priced per core"),
        ("key,value,per\ncpu,1,hour\n", "p.csv, line 2, column per: 'hour' is none of core-hour"),
        ("key,value,per\nx,1,core-hour\n", "p.csv, line 2, column per: 'x' is the key of no"),
        ('key,value\n"cpu,1\n', "p.csv, line 2: a quotation mark is opened and not closed"),
        ('key,value\ncpu,1\n"mem,1\ngpu,1\nnpu,1\n', "p.csv, line 3: a quotation mark"),
        ('key,value\n"a\nb",1\n', "p.csv, line 2, column key: must not hold control"),
        ("key,value,from\ncpu,1,soon\n", "p.csv, line 2, column from: 'soon' is no whole minute"),
        (
            "key,value,from\ncpu,1,2026-12-01T12:00:30Z\n",
            "p.csv, line 2, column from: '2026-12-01T12:00:30Z' is no whole minute like",
        ),
        (
            "key,value,from,to\ncpu,1,2026-12-01T12:00Z,2026-12-01T12:00Z\n",
            "p.csv, line 2, column to: must be after `from`",
        ),
        (
            "key,value,from,to\nA,1,2026-12-01T12:00Z,2026-12-03T12:00Z\nA,2,2026-12-02T12:00Z,\n",
            "p.csv, line 3, column from: overlaps the range that ends 2026-12-03T12:00:00Z, in p.",
        ),
        ("key,value\n" + "".join(f"k{n},1\n" for n in range(100_000)), "p.csv: hold"),
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
        ('{"cpu": {"a": 1}}', "p.json, key 'cpu': 'a' is not one of value, per, from, to"),
        ('{"cpu": {"value": 1, "value": 2}}', "p.json, key 'cpu': 'value' is not one of"),
        ('{"cpu": {"value": 1, "per": 2}}', "p.json, key 'cpu', column per: '2' is none of"),
        ('{"cpu": {"value": 1, "to": []}}', "p.json, key 'cpu': the to must be a text"),
        ('{"cpu": 1, "cpu": 2}', "p.json, key 'cpu', column key: 'cpu' is given twice"),
        ('{"cpu": [1, 2]}', "p.json, key 'cpu', column key: 'cpu' is given twice"),
    ],
)
def test_a_fault_in_json_names_its_key(text: str, message: str) -> None:
    """Or its place, where it is no JSON."""
    with pytest.raises(UsageError) as raised:
        read(text, Kind.JSON, "p.json")
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "p.yaml: must be a mapping"),
        ("- cpu", "p.yaml: must be a mapping"),
        ("cpu: [1\n", "p.yaml, line 2, column 1: expected ',' or ']'"),
        ("cpu: 1\n\tmem: 2\n", "p.yaml, line 2, column 1: found character"),
        ("cpu: 1\n---\nmem: 2\n", "p.yaml, line 2, column 1: but found another document"),
        ("cpu: 1\nmem: free\n", "p.yaml, line 2, column 6 (value): 'free' is no number"),
        ("cpu: 1_000\n", "p.yaml, line 1, column 6 (value): '1_000' is no number"),
        ("cpu: .nan\n", "p.yaml, line 1, column 6 (value): '.nan' is no number"),
        ("cpu:\n", "p.yaml, line 1, column 5 (value): '' is no number"),
        ("cpu: 1\nmem: 2\ncpu: 3\n", "p.yaml, line 3, column 1: 'cpu' is given twice"),
        ("cpu: {value: 1, value: 2}\n", "p.yaml, line 1, column 17: 'value' is given twice"),
        ("cpu: {price: 1}\n", "p.yaml, line 1, column 6: 'price' is none of value, per, from"),
        ("cpu: {per: core-hour}\n", "p.yaml, line 1, column 6: '' is no number"),
        ("cpu:\n- value: 1\n  from: x\n", "p.yaml, line 3, column 9 (from): 'x' is no whole"),
        ("cpu: {value: [1]}\n", "p.yaml, line 1, column 14: must be a number or a text"),
        ("a: &x 1\nb: *x\n", "p.yaml, line 1, column 4: anchors and aliases"),
        ("a: !!python/object:os.system 1\n", "p.yaml, line 1, column 4: tags like"),
        ("a: " + "[" * 100_000, "p.yaml, line 1, column 7: is nested too deeply"),
        ('"a\\x01": 1\n', "p.yaml, line 1, column 10: must not hold control"),
        ("a: 1\x00\n", "p.yaml: is no YAML"),
    ],
)
def test_a_fault_in_yaml_names_its_line_and_column(text: str, message: str) -> None:
    """Whatever it is; nothing of the text is ever made an object."""
    with pytest.raises(UsageError) as raised:
        read(text, Kind.YAML, "p.yaml")
    assert str(raised.value).startswith(message)


def test_a_yaml_of_very_many_lines_is_refused_early() -> None:
    """Before it is read to its end."""
    with pytest.raises(UsageError, match=r"holds too much|more than 10000"):
        read("".join(f"k{n}: 1\n" for n in range(12_000)), Kind.YAML, "p.yaml")


def test_the_name_of_a_file_tells_its_kind() -> None:
    """CSV unless it says JSON or YAML."""
    names = ["a.csv", "A.JSON", "-", "json", "a.yaml", "b.YML"]
    assert [kind_of(name) for name in names] == [
        Kind.CSV,
        Kind.JSON,
        Kind.CSV,
        Kind.CSV,
        Kind.YAML,
        Kind.YAML,
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
