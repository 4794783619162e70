"""Quantities of the command line: exact, and a clear sentence where there is none."""

import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.jobs.jobfile import MAX_CPU_M, MAX_MEM_MI
from agent.launch import quantity
from agent.launch.quantity import check_fits, parse_cpu, parse_gpus, parse_mem, show_mib


@pytest.mark.parametrize(
    ("text", "millis"),
    [("500m", 500), ("2", 2000), ("1.5", 1500), ("0.001", 1), ("1.500000", 1500), ("0", 0),
     ("10000", 10_000_000), ("0.29", 290), ("1.0", 1000)],
)  # fmt: skip
def test_processors_are_exact(text: str, millis: int) -> None:
    """0.29 cores are 290 milli-cores, which no float says."""
    assert parse_cpu(text) == millis


@pytest.mark.parametrize(
    "text",
    ["", "m", "-1", "+1", "1e3", "0.5m", "1.", ".5", "0.0001", "nan", "inf", "1 ", "½", "٣", "2k",
     "10001", "9" * 50, "1_000", "0x10"],
)  # fmt: skip
def test_what_is_no_number_of_processors_is_refused(text: str) -> None:
    """Nothing is rounded away and nothing is guessed."""
    with pytest.raises(ValueError, match=r"processors|milli-core"):
        parse_cpu(text)


@pytest.mark.parametrize(
    ("text", "kib"),
    [("256Mi", 256 << 10), ("2Gi", 2 << 20), ("1.5Gi", 1536 << 10), ("1G", 976563), ("1M", 977),
     ("1Ki", 1), ("1k", 1), ("1048576", 1024), ("0", 0), ("0Mi", 0), ("1Pi", 1 << 40),
     ("0.1Mi", 103)],
)  # fmt: skip
def test_memory_is_exact_and_rounded_up_to_a_kib(text: str, kib: int) -> None:
    """Binary and decimal units are what they say; a part of a KiB is one."""
    assert parse_mem(text) == kib


@pytest.mark.parametrize(
    "text",
    ["", "Mi", "1K", "-1Mi", "256mi", "256MB", "1Gib", "5m", "1.5.5Gi", "nanMi", "2Pi", "1 Gi"],
)
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    """The sentence shows what to write."""
    with pytest.raises(ValueError, match=r"memory|more than"):
        parse_mem(text)


def test_a_bare_small_number_is_asked_about() -> None:
    """Nobody means 256 bytes."""
    with pytest.raises(ValueError, match="write 256Mi or 256Gi"):
        parse_mem("256")


@settings(deadline=None)
@given(st.integers(0, 1 << 40))
def test_mib_are_written_exactly(kib: int) -> None:
    """The decimal text is the fraction, to the last digit."""
    assert Fraction(show_mib(kib)) == Fraction(kib, 1024)


def test_gpus_are_indexes_each_once() -> None:
    """A list of small numbers, nothing else."""
    assert parse_gpus("0") == [0]
    assert parse_gpus("3,0,12") == [3, 0, 12]
    for wrong in ("", "0,", "0,0", "-1", "GPU-1", "0 1", "1000"):
        with pytest.raises(ValueError, match="GPU indexes"):
            parse_gpus(wrong)


def test_the_bounds_are_those_of_the_jobs_directory() -> None:
    """What `exec` accepts the agent accepts."""
    assert quantity.MAX_CPU_M == MAX_CPU_M
    assert quantity.MAX_MEM_KIB == MAX_MEM_MI * 1024


@pytest.mark.parametrize(
    ("cpu_m", "mem_kib", "sentence"),
    [
        (1_000_000, 0, "of this node; in milli-cores it is written 1000m"),
        (4_000, 0, "--cpu: 4 processors are more than the 2 of this node"),
        (2_500, 0, "--cpu: 2.5 processors are more than the 2 of this node"),
        (0, 300 << 20, "of this node; write such as 256Mi or 2Gi"),
    ],
)  # fmt: skip
def test_more_than_the_node_has_is_refused(cpu_m: int, mem_kib: int, sentence: str) -> None:
    """With the unit, where one was likely forgotten."""
    with pytest.raises(ValueError, match=f"{re.escape(sentence)}$"):
        check_fits(cpu_m, mem_kib, 2_000, 4 << 20)


def test_all_that_the_node_has_may_be_asked_for() -> None:
    """A job may be alone on its node."""
    check_fits(2_000, 4 << 20, 2_000, 4 << 20)
