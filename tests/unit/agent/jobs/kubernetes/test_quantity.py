"""Kubernetes' quantities: the whole grammar, exact, rounded up where a conversion must."""

import math
from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.jobs.kubernetes.quantity import MAX_NANO, NANO, parse_quantity, to_kib, to_milli

FACTORS = {
    "": Fraction(1),
    **{suffix: Fraction(1, 1000**power) for power, suffix in enumerate("mun", 1)},
    **{suffix: Fraction(1000**power) for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Fraction(1024**power) for power, suffix in enumerate("KMGTPE", 1)},
}
DIGITS = st.text("0123456789", max_size=12)
SUFFIXES = st.sampled_from(sorted(FACTORS)) | st.builds(
    "{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 25)
)


def factor_of(suffix: str) -> Fraction:
    """What a suffix multiplies by, reckoned another way than the parser does."""
    return FACTORS[suffix] if suffix in FACTORS else Fraction(10) ** int(suffix[1:])


@pytest.mark.parametrize(
    ("text", "milli"),
    [
        ("100m", 100),
        ("1.5", 1500),
        ("2", 2000),
        ("0.1", 100),
        (".5", 500),
        ("5.", 5000),
        ("+1", 1000),
        ("1e3", 1_000_000),
        ("1E3", 1_000_000),
        ("15e-1", 1500),
        ("2k", 2_000_000),
        ("0", 0),
        ("250u", 1),  # rounded up, as Kubernetes does
        ("1n", 1),
    ],
)
def test_cpu_is_milli_cores(text: str, milli: int) -> None:
    """Every way to write an amount of cores."""
    assert to_milli(parse_quantity(text)) == milli


@pytest.mark.parametrize(
    ("text", "kib"),
    [
        ("2Gi", 2 << 20),
        ("0.5Gi", 512 << 10),
        ("128974848", 125_952),
        ("129e6", 125_977),  # 125,976.5625
        ("129M", 125_977),
        ("123Mi", 125_952),
        ("500M", 488_282),
        ("128974848000m", 125_952),
        ("1E", 976_562_500_000_000),
        ("1Ki", 1),
        ("1", 1),
        ("0", 0),
    ],
)
def test_memory_is_kib(text: str, kib: int) -> None:
    """Bytes in powers of 1000 and 1024, exponents, even thousandths of a byte."""
    assert to_kib(parse_quantity(text)) == kib


@given(whole=DIGITS, part=DIGITS | st.none(), suffix=SUFFIXES)
def test_the_value_is_exact(whole: str, part: str | None, suffix: str) -> None:
    """The number times its suffix, rounded up to 10^-9, whatever the notation."""
    text = whole + ("" if part is None else f".{part}") + suffix
    if not whole and not part:
        with pytest.raises(ValueError, match="no quantity"):
            parse_quantity(text)
        return
    digits = int((whole or "0") + (part or ""))
    value = Fraction(digits, 10 ** len(part or "")) * factor_of(suffix)
    assert parse_quantity(text) == min(math.ceil(value * NANO), MAX_NANO)


@given(st.integers(0, MAX_NANO))
def test_conversions_never_lose_anything(nano: int) -> None:
    """Rounded up, by less than one unit."""
    assert 0 <= to_milli(nano) * (NANO // 1000) - nano < NANO // 1000
    assert 0 <= to_kib(nano) * 1024 * NANO - nano < 1024 * NANO


@given(st.text(max_size=12))
def test_any_text_is_a_quantity_or_is_refused(text: str) -> None:
    """Nothing but a number that is no less than 0, or a ValueError."""
    with suppress(ValueError):
        assert 0 <= parse_quantity(text) <= MAX_NANO


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "-1",
        "1 Gi",
        "1gi",
        "1KI",
        "1K",
        "1e",
        "1e3Gi",
        "1.2.3",
        "0x10",
        "\N{ARABIC-INDIC DIGIT ONE}",
        "1i",
    ],
)
def test_what_kubernetes_refuses_is_refused(text: str) -> None:
    """An unknown suffix is not passed over: 1gi is not 1."""
    with pytest.raises(ValueError, match="no quantity"):
        parse_quantity(text)


@pytest.mark.parametrize("text", ["9" * 64, "1e999", "9223372036854775808", "16E"])
def test_a_greater_one_than_kubernetes_has_is_its_greatest(text: str) -> None:
    """No number costs more time or memory than it is long."""
    assert parse_quantity(text) == MAX_NANO


def test_endless_digits_are_refused() -> None:
    """Nor is it read at any length."""
    with pytest.raises(ValueError, match="no quantity"):
        parse_quantity("9" * 100_000)
