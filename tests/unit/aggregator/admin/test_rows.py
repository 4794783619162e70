"""Claims about how jobs and prices are shown in tables."""

import pytest

from aggregator.admin.client import Number, Record
from aggregator.admin.items import _job
from aggregator.admin.output import Format
from aggregator.admin.ratio_rows import show_prices

PRICES: list[Record] = [
    {
        "key": key,
        "value": value,
        "per": per,
        "startsAt": start,
        "endsAt": None,
        "isScheduled": False,
    }
    for key, value, per, start in (
        ("cpu", Number("1"), "m-hour", None),
        ("mem", Number("2"), "Mi-hour", "2026-11-20T12:34:00Z"),
    )
]


def test_a_table_of_prices_says_which_only_begin(capsys: pytest.CaptureFixture[str]) -> None:
    """A price that holds from the next minute is not in force yet."""
    show_prices(PRICES, Format.TABLE)
    _, _, cpu, mem = capsys.readouterr().out.splitlines()
    assert cpu.split() == ["cpu", "1", "m-hour", "yes"]
    assert mem.split() == ["mem", "2", "Mi-hour", "from", "12:34", "UTC"]


def test_the_other_forms_keep_the_instant(capsys: pytest.CaptureFixture[str]) -> None:
    """As it came, and nothing beside it."""
    show_prices(PRICES, Format.CSV)
    assert capsys.readouterr().out.splitlines()[0] == "key,value,per,startsAt,endsAt,isScheduled"


@pytest.mark.parametrize(
    ("job_id", "name", "shown"),
    [
        ("train-1a2b3c4d", "train", "train-1a2b3c4d"),
        ("4711", "train", "train (4711)"),
        ("4711", "", "4711"),
        ("4711", None, "4711"),
    ],
)
def test_a_job_is_shown_by_what_finds_it(job_id: str, name: str | None, shown: str) -> None:
    """Its id is always there, its name once."""
    assert _job({"jobId": job_id, "jobName": name}) == shown
