"""Claims about the Ledger API's sums for dashboards."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from urllib.parse import quote
from uuid import UUID

from aggregator.api.ledger.remembered import KEPT_SECONDS, MAX_KEPT, REMEMBERED, Remembered
from aggregator.clock import utc_now
from aggregator.store.pool import Pool
from tests.integration.aggregator.api.client import Api, served
from tests.integration.aggregator.api.owners import FOREIGN, MINE, tokens
from tests.integration.aggregator.rows import Rows

ANALYTICS = "/api/v1/billing/usage-analytics"
HOUR_MS = 3_600_000
DEVICE = 126_000
DAY = date(2026, 2, 6)
ALICE = UUID("11111111-2222-3333-4444-555555555555")
NAMES = [
    "lookback", "byDate", "byModel", "byModelDaily", "topModels", "byKey", "byKeyDaily",
    "topKeyNames",
]  # fmt: skip


def used(
    rows: Rows,
    day: date = DAY,
    *,
    hours: int = 1,
    price: int = 2,
    project: str = "p1",
    user_id: UUID = ALICE,
) -> None:
    """So many hours of a processor's thousandth on a day."""
    bill_id = rows.bill(project=project, user_id=user_id)
    billed = hours * HOUR_MS
    rows.daily(bill_id, day, billed=billed, amount=Decimal(billed * price))


async def test_the_answer_has_exactly_the_keys_of_the_contract(api: Api, rows: Rows) -> None:
    """To the byte; the last day and what costs most come first, what has no price is left out."""
    used(rows, hours=2)
    used(rows, DAY + timedelta(days=1), project="p2")
    bill_id = rows.bill(type_="gpu", model="NVIDIA H200", project="p2")
    billed = DEVICE * HOUR_MS
    rows.daily(bill_id, DAY, billed=3 * billed, unpriced=billed, amount=Decimal(5 * billed))
    rows.daily(rows.bill(type_="mem"), DAY, billed=HOUR_MS, unpriced=HOUR_MS)
    answer = await api.get(f"{ANALYTICS}?startDate=2026-02-01&endDate=2026-02-28")
    assert answer.status == 200
    assert answer.text == json.dumps(
        {
            "lookback": "2026-02-01:2026-02-28",
            "byDate": [
                {"date": "2026-02-07", "USD": 2, "DIEM": 0},
                {"date": "2026-02-06", "USD": 9, "DIEM": 0},
            ],
            "byModel": [
                {"modelName": "cpu-plain-m-hour", "unitType": "m-hour", "modelType": "cpu",
                 "totalUsd": 6, "totalDiem": 0, "totalUnits": 3},
                {"modelName": "gpu-nvidia-h200-device-hour", "unitType": "device-hour",
                 "modelType": "gpu", "totalUsd": 5, "totalDiem": 0, "totalUnits": 2},
            ],
            "byModelDaily": [
                {"cpu-plain-m-hour": 2, "gpu-nvidia-h200-device-hour": 0, "date": 1770422400000},
                {"cpu-plain-m-hour": 4, "gpu-nvidia-h200-device-hour": 5, "date": 1770336000000},
            ],
            "topModels": ["cpu-plain-m-hour", "gpu-nvidia-h200-device-hour"],
            "byKey": [
                {"apiKeyId": None, "description": "p2", "totalUsd": 7, "totalDiem": 0,
                 "totalUnits": 3},
                {"apiKeyId": None, "description": "p1", "totalUsd": 4, "totalDiem": 0,
                 "totalUnits": 2},
            ],
            "byKeyDaily": [
                {"p2": 2, "p1": 0, "date": 1770422400000},
                {"p2": 5, "p1": 4, "date": 1770336000000},
            ],
            "topKeyNames": ["p2", "p1"],
        },
        separators=(",", ":"),
    )  # fmt: skip


async def test_days_are_whole_and_both_ends_belong_to_them(api: Api, rows: Rows) -> None:
    """Also at the ends of months and on a leap day; by default the last seven, today included."""
    today = utc_now().astimezone(UTC).date()
    for day in (date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1),
                *(today - timedelta(days=each) for each in (0, 6, 8, 88, 91))):  # fmt: skip
        used(rows, day)
    for query, lookback, days in (
        ("", "7d", 2),
        ("?lookback=", "7d", 2),
        ("?lookback=10d", "10d", 3),
        ("?lookback=90d", "90d", 4),
        ("?startDate=2024-02-29&endDate=2024-02-29", "2024-02-29:2024-02-29", 1),
        ("?startDate=2024-02-28&endDate=2024-03-01", "2024-02-28:2024-03-01", 3),
        ("?startDate=2024-02-01&endDate=2024-02-29", "2024-02-01:2024-02-29", 2),
        ("?startDate=2024-03-01&endDate=2024-05-29", "2024-03-01:2024-05-29", 1),
        ("?startDate=0001-01-01&endDate=0001-01-01", "0001-01-01:0001-01-01", 0),
        ("?startDate=9999-12-31&endDate=9999-12-31", "9999-12-31:9999-12-31", 0),
    ):
        found = (await api.get(ANALYTICS + query)).json()
        assert list(found) == NAMES
        if today == utc_now().astimezone(UTC).date():  # or it was midnight meanwhile
            assert (found["lookback"], len(found["byDate"])) == (lookback, days), query


async def test_a_bad_parameter_is_named(api: Api) -> None:
    """At most 90 days; both dates or none."""
    lookback = "must be days like 7d, at most 90d"
    for query, name, reason in (
        *((f"lookback={quote(each)}", "lookback", lookback)
          for each in ("0d", "91d", "7", "d", "07d", "-1d", "7D", "1000d", "٣d", "7d\n", "\0")),
        ("startDate=2026-02-06", "endDate", "is required with the other date"),
        ("endDate=2026-02-06", "startDate", "is required with the other date"),
        ("startDate=2026-02-06&endDate=2026-02-05", "endDate", "must not be before startDate"),
        ("startDate=2026-01-01&endDate=2026-04-01", "startDate",
         "must be at most 90 days with endDate"),
        ("startDate=2026-02-06&endDate=2026-02-07&lookback=7d", "lookback",
         "must be sent without startDate and endDate"),
        ("startDate=2026-02-30&endDate=2026-02-07", "startDate", "must be a day like 2026-02-06"),
        ("userId=x", "userId", "must be a UUID like 01234567-89ab-cdef-0123-456789abcdef"),
    ):  # fmt: skip
        answer = await api.get(f"{ANALYTICS}?{query}")
        assert (answer.status, answer.json()) == (
            400,
            {
                "error": "Invalid request parameters",
                "details": {"_errors": [], name: {"_errors": [reason]}},
            },
        ), query


async def test_answers_are_remembered_for_each_scope_by_itself(api: Api, rows: Rows) -> None:
    """Who sees less is not shown what somebody else asked for; a new sum comes later."""
    range_ = "?startDate=2026-02-06&endDate=2026-02-06"
    secrets = await tokens(api)
    for owner in (MINE, FOREIGN):
        used(rows, project=owner.project, user_id=owner.user_id)
    whole = (await api.get(ANALYTICS + range_)).json()
    assert sorted(whole["topKeyNames"]) == sorted([MINE.project, FOREIGN.project])
    own = {"Authorization": f"Bearer {secrets['user']}"}
    assert (await api.get(ANALYTICS + range_, **own)).json()["topKeyNames"] == [MINE.project]
    theirs = await api.get(f"{ANALYTICS}{range_}&userId={FOREIGN.user_id}", **own)
    assert theirs.json()["byDate"] == []
    asked = await api.get(f"{ANALYTICS}{range_}&userId={FOREIGN.user_id}")
    assert asked.json()["topKeyNames"] == [FOREIGN.project]
    used(rows, project="new")
    assert (await api.get(ANALYTICS + range_)).json() == whole
    assert "new" in (await api.get(ANALYTICS + "?startDate=2026-02-05&endDate=2026-02-06")).text


async def test_after_ten_minutes_it_is_asked_anew(pool: Pool, rows: Rows) -> None:
    """By the clock that does not jump."""
    now = [0.0]
    range_ = "?startDate=2026-02-06&endDate=2026-02-06"
    async with served(
        pool, prepare=lambda app: app.__setitem__(REMEMBERED, Remembered(clock=lambda: now[0]))
    ) as api:
        for after, days in ((0.0, 0), (KEPT_SECONDS - 1, 0), (KEPT_SECONDS, 1)):
            now[0] = after
            assert len((await api.get(ANALYTICS + range_)).json()["byDate"]) == days
            if not after:
                used(rows)


def test_what_is_remembered_is_bounded() -> None:
    """What was used least lately goes first."""
    kept = Remembered(clock=lambda: 0.0)
    for number in range(MAX_KEPT + 1):
        kept.put(number, b"x")
        assert kept.get(0) == b"x"
    assert kept.get(1) is None


async def test_hostile_and_many_projects_are_names(api: Api, rows: Rows) -> None:
    """Day by day the ten that cost most; one that is called `date` does not hide the date."""
    names = count(1)
    for name in ("date", "'; DROP TABLE daily; --", "\u202e😀<b>", *"abcdefghij"):
        used(rows, project=name, hours=100 - next(names))
    found = (await api.get(f"{ANALYTICS}?startDate=2026-02-06&endDate=2026-02-06")).json()
    assert len(found["byKey"]) == 13
    assert found["topKeyNames"][:3] == ["date", "'; DROP TABLE daily; --", "\u202e😀<b>"]
    (line,) = found["byKeyDaily"]
    assert len(found["topKeyNames"]) == len(line) == 10
    assert line["date"] == datetime(2026, 2, 6, tzinfo=UTC).timestamp() * 1000
