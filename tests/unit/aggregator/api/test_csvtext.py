"""Claims about the cells of a CSV."""

import re
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.api.csvtext import cells


@dataclass
class Shape:
    value: float | int | str | bool | None


def cell(value: float | str | None) -> str:
    (text,) = cells(Shape(value), ("value",))
    return text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-05, "0.00001"),
        (-2.5e-07, "-0.00000025"),
        (1e22, "10000000000000000000000"),
        (5e-324, "0." + "0" * 323 + "5"),
        (20.666666666666668, "20.666666666666668"),
        (3, "3"),
        (None, ""),
        (True, "true"),
        ("1e-05", "1e-05"),
        ("-1", "'-1"),
    ],
)
def test_a_number_is_written_in_plain_digits(value: float | str | None, text: str) -> None:
    """As `cut` and spreadsheets take it; a text is left as it is."""
    assert cell(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_digits_are_the_very_number(value: float) -> None:
    """Whoever reads them has the double that JSON has."""
    text = cell(value)
    assert re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text)
    assert float(text).hex() == value.hex()
