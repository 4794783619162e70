"""Claims about what the Pods API is asked and how it answers, on what comes over the wire."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import quote

import pytest
from aiohttp import web

from aggregator.api.app import build_app
from aggregator.api.docs import DOCUMENT
from aggregator.api.pods.gpu_types import GPU_TYPES
from aggregator.api.route import PODS_LIVE
from aggregator.metrics import Metrics
from aggregator.settings import HttpSettings, PodsSettings, Settings
from aggregator.store.pool import Pool
from tests.integration.aggregator.api.client import Api, served
from tests.integration.aggregator.api.pods_rows import HOUR, Charges
from tests.integration.aggregator.rows import Rows

Json: TypeAlias = dict[str, Any]
BILLING = "/v1/billing"
PODS = f"{BILLING}/pods"
PATHS = (PODS, f"{BILLING}/endpoints", f"{BILLING}/networkvolumes")
FEBRUARY = "startTime=2026-02-01T00:00:00Z&endTime=2026-03-01T00:00:00Z"
H200 = "NVIDIA H200"


@pytest.fixture
def charges(rows: Rows) -> Charges:
    """Charges on the test's own database."""
    return Charges(rows)


async def records(api: Api, query: str, path: str = PODS) -> Sequence[Json]:
    """The records of an answer."""
    answer = await api.get(f"{path}?{query}")
    assert answer.status == 200, answer.text
    found: Sequence[Json] = answer.json()
    return found


async def times(api: Api, query: str) -> Sequence[str]:
    """Where the buckets of an answer begin."""
    return [each["time"] for each in await records(api, query)]


def at(text: str) -> datetime:
    """An instant."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


async def test_a_pods_record_in_bytes(api: Api, charges: Charges) -> None:
    """The keys of the original in its order, whole numbers without a point."""
    gpu = charges.item("job-1", model=H200, quota=8)
    cpu = charges.item("job-1", "cpu", quota=4000, run_id=charges.run_of(gpu))
    disk = charges.item("job-1", "storage", quota=47_000, run_id=charges.run_of(gpu))
    for item, fee in ((gpu, "100"), (cpu, "0.5"), (disk, "0")):
        charges.charge(item, fee)
    charges.roll_up()
    answer = await api.get(f"{PODS}?{FEBRUARY}")
    assert answer.body == (
        b'[{"amount":100.5,"diskSpaceBilledGb":50,"gpuTypeId":"NVIDIA H200",'
        b'"time":"2026-02-06T00:00:00Z","timeBilledMs":3600000}]'
    )
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    hours = FEBRUARY.replace("03-01", "02-07")
    answer = await api.get(f"{PODS}?{hours}&grouping=podId&bucketSize=hour")
    assert answer.body == (
        b'[{"amount":100.5,"diskSpaceBilledGb":50,"podId":"job-1",'
        b'"time":"2026-02-06T12:00:00Z","timeBilledMs":3600000}]'
    )


async def test_the_siblings_records_in_bytes(api: Api, charges: Charges) -> None:
    """Endpoints are jobs of kind service; storage has no id."""
    charges.charge(charges.item("chat", model=H200, kind="service"), 3)
    charges.charge(charges.item("train", model=H200), 4)
    charges.charge(charges.item("train", "storage", quota=954), "0.25")
    charges.charge(charges.item("chat", "storage", quota=954), "0.25")
    charges.roll_up()
    endpoints, volumes = PATHS[1:]
    answer = await api.get(f"{endpoints}?{FEBRUARY}&bucketSize=month")
    assert answer.body == (
        b'[{"amount":3,"diskSpaceBilledGb":0,"endpointId":"chat",'
        b'"time":"2026-02-01T00:00:00Z","timeBilledMs":3600000}]'
    )
    for grouping, name in (("podId", "chat"), ("gpuTypeId", H200)):
        found = await records(api, f"{FEBRUARY}&grouping={grouping}", endpoints)
        assert [(each[grouping], each["amount"]) for each in found] == [(name, 3)]
    assert await records(api, f"{FEBRUARY}&endpointId=train", endpoints) == []
    answer = await api.get(f"{volumes}?{FEBRUARY}&bucketSize=year")
    assert answer.body == (
        b'[{"amount":0.5,"diskSpaceBilledGb":3,"time":"2026-01-01T00:00:00Z",'
        b'"timeBilledMs":7200000}]'
    )
    found = await records(api, f"{FEBRUARY}&networkVolumeId=chat", volumes)
    assert [(each["amount"], each["diskSpaceBilledGb"]) for each in found] == [(0.25, 2)]


async def test_what_is_not_said_is_the_last_thirty_days_by_day_and_model(
    api: Api, charges: Charges
) -> None:
    """A range without an end ends now; one without a beginning begins thirty days before it."""
    gpu = charges.item("job-1", model=H200)
    now = clock(charges).replace(minute=0, second=0, microsecond=0)
    for days in (0, 1, 29, 31, 59, 62):
        charges.charge(gpu, 1, at=now - timedelta(days=days))
    charges.roll_up()

    def days_ago(*days: int) -> Sequence[str]:
        return [f"{now - timedelta(days=each):%Y-%m-%dT00:00:00Z}" for each in days]

    assert await times(api, "") == days_ago(29, 1, 0)
    assert await times(api, "bucketSize=&grouping=&gpuTypeId=&startTime=") == days_ago(29, 1, 0)
    end = f"{now - timedelta(days=30):%Y-%m-%dT%H:%M:%SZ}"
    assert await times(api, f"endTime={end}") == days_ago(59, 31)
    assert await times(api, f"startTime={end}") == days_ago(29, 1, 0)
    assert await times(api, "startTime=2999-01-01T00:00:00Z") == []
    found = await records(api, "")
    assert {tuple(each) for each in found} == {
        ("amount", "diskSpaceBilledGb", "gpuTypeId", "time", "timeBilledMs")
    }


def clock(charges: Charges) -> datetime:
    """The database's time."""
    row = charges.rows.connection.execute("SELECT now()").fetchone()
    assert row is not None
    now: datetime = row[0]
    return now.astimezone(UTC)


async def test_buckets_are_of_the_calendar_in_utc(api: Api, charges: Charges) -> None:
    """Months of any length, a leap day, weeks from Monday also over the new year."""
    gpu = charges.item("job-1", model=H200)
    for text in (
        "2027-12-31T23:00:00", "2028-01-01T00:00:00", "2028-02-28T23:00:00",
        "2028-02-29T00:00:00", "2028-02-29T23:00:00", "2028-03-01T00:00:00",
    ):  # fmt: skip
        charges.charge(gpu, 1, at=at(text))
    charges.roll_up()
    span = "startTime=2027-12-30T00:00:00Z&endTime=2028-03-02T00:00:00Z"

    async def found(bucket: str) -> dict[str, float]:
        shown = await records(api, f"{span}&bucketSize={bucket}")
        return {each["time"][:10]: each["amount"] for each in shown}

    assert await found("day") == {
        "2027-12-31": 1, "2028-01-01": 1, "2028-02-28": 1, "2028-02-29": 2, "2028-03-01": 1,
    }  # fmt: skip
    assert await found("week") == {"2027-12-27": 2, "2028-02-28": 4}
    assert await found("month") == {
        "2027-12-01": 1,
        "2028-01-01": 1,
        "2028-02-01": 3,
        "2028-03-01": 1,
    }
    assert await found("year") == {"2027-01-01": 1, "2028-01-01": 5}
    assert await times(
        api, "startTime=2028-02-28T22:30:00Z&endTime=2028-02-29T00:00:00.000001Z&bucketSize=hour"
    ) == ["2028-02-28T23:00:00Z", "2028-02-29T00:00:00Z"]


@pytest.mark.parametrize(
    ("start", "end", "hours"),
    [
        ("2026-02-06T00:00:00Z", "2026-02-06T23:00:00Z", [0]),
        ("2026-02-06T00:00:00Z", "2026-02-06T23:00:00.000001Z", [0, 23]),
        ("2026-02-06T00:59:59.999999Z", "2026-02-06T23:59:59Z", [0, 23]),
        ("2026-02-06T00:59:59.999999999Z", "2026-02-06T23:59:59Z", [0, 23]),
        ("2026-02-06T01:00:00Z", "2026-02-07T00:00:00Z", [23]),
        ("2026-02-06T00:00:00Z", "2026-02-06T00:00:00Z", []),
        ("2026-02-06T00:30:00Z", "2026-02-06T00:30:00Z", [0]),
        ("2026-02-06T02:00:00+01:00", "2026-02-07T01:00:00+01:00", [23]),
        ("2026-02-06T01:00:00+01:00", "2026-02-06T20:00:00-04:00", [0, 23]),
        ("2026-02-06t00:00:00z", "2026-02-07T00:00:00-00:00", [0, 23]),
    ],
)
async def test_a_range_is_widened_to_whole_buckets(
    api: Api, charges: Charges, start: str, end: str, hours: Sequence[int]
) -> None:
    """Its start down, its end up; a plus may come unescaped; the last instant is within."""
    gpu = charges.item("job-1", model=H200)
    for hour in (0, 23):
        charges.charge(gpu, 1, at=at("2026-02-06T00:00:00") + hour * HOUR)
    charges.roll_up()
    for written in (
        f"startTime={start}&endTime={end}",
        f"startTime={quote(start)}&endTime={quote(end)}",
    ):
        found = await times(api, f"bucketSize=hour&{written}")
        assert found == [f"2026-02-06T{hour:02}:00:00Z" for hour in hours]
        is_empty = start == end and start.endswith("00:00Z") and "30" not in start
        assert len(await times(api, written)) == (0 if is_empty else 1)


async def test_a_change_of_the_clients_clock_loses_no_hour(api: Api, charges: Charges) -> None:
    """From +01:00 to +02:00 a night has an hour less: 47 hours in two days, each once."""
    gpu = charges.item("job-1", model=H200)
    for hour in range(72):
        charges.charge(gpu, 1, at=at("2026-03-27T12:00:00") + hour * HOUR)
    charges.roll_up()
    span = "startTime=2026-03-28T00:00:00+01:00&endTime=2026-03-30T00:00:00%2B02:00"
    found = await times(api, f"{span}&bucketSize=hour")
    assert (len(found), found[0], found[-1]) == (47, "2026-03-27T23:00:00Z", "2026-03-29T21:00:00Z")
    assert [each["amount"] for each in await records(api, span)] == [12, 24, 24]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("bucketSize=minute", "bucketSize: "),
        ("bucketSize=Day", "bucketSize: "),
        ("grouping=userId", "grouping: "),
        ("startTime=yesterday", "startTime: must be an instant like"),
        ("startTime=2026-02-06", "startTime: must be an instant like"),
        ("startTime=2026-02-06T00:00:00", "startTime: must be an instant like"),
        ("startTime=2027-02-29T00:00:00Z", "startTime: must be an instant like"),
        ("endTime=2026-02-06T24:00:00Z", "endTime: must be an instant like"),
        ("endTime=2026-02-06T23:59:60Z", "endTime: must be an instant like"),
        ("endTime=1770336000", "endTime: must be an instant like"),
        ("startTime=0000-01-01T00:00:00Z", "startTime: must be an instant like"),
        ("startTime=2026-02-06T00:00:00Z&startTime=x", "startTime: is given twice"),
        (
            "startTime=2026-02-07T00:00:00Z&endTime=2026-02-06T00:00:00Z",
            "endTime lies before startTime",
        ),
        (
            "bucketSize=hour&startTime=2026-01-01T00:00:00Z&endTime=2026-02-01T00:00:01Z",
            "at most 31 days apart where bucketSize is hour: ask for longer buckets",
        ),
        (
            "startTime=2020-01-01T00:00:00Z&endTime=2025-01-05T00:00:00Z",
            "at most 1830 days apart where bucketSize is day",
        ),
        (
            "bucketSize=year&startTime=1900-01-01T00:00:00Z&endTime=2026-01-01T00:00:00Z",
            "at most 36600 days apart where bucketSize is year",
        ),
    ],
)
async def test_what_cannot_be_asked_is_refused(api: Api, query: str, says: str) -> None:
    """400 and a message, and nothing else, at each path."""
    for path in PATHS:
        if "grouping" in query and path == PATHS[2]:
            continue
        answer = await api.get(f"{path}?{query}")
        assert (answer.status, list(answer.json())) == (400, ["message"])
        assert says in answer.json()["message"]
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"


async def test_the_longest_ranges_are_answered(api: Api, charges: Charges) -> None:
    """Those that are just not refused."""
    charges.charge(charges.item("job-1", model=H200), 1)
    charges.roll_up()
    for span in (
        "bucketSize=hour&startTime=2026-01-10T12:30:00Z&endTime=2026-02-10T12:30:00Z",
        "startTime=2022-01-01T00:00:00Z&endTime=2027-01-05T00:00:00Z",
        "bucketSize=week&startTime=1930-01-01T00:00:00Z&endTime=2030-01-05T00:00:00Z",
        "bucketSize=month&startTime=1930-01-01T00:00:00Z&endTime=2030-01-05T00:00:00Z",
        "bucketSize=year&startTime=1930-01-01T00:00:00Z&endTime=2030-01-05T00:00:00Z",
        "startTime=9998-12-30T00:00:00Z&endTime=9998-12-31T23:59:59Z&bucketSize=year",
        "startTime=0002-01-01T00:00:00Z&endTime=0002-01-02T00:00:00Z&bucketSize=week",
        "endTime=0002-01-01T00:00:00Z&bucketSize=year",
    ):
        assert len(await records(api, span)) == (span[:10] == "bucketSize" or "2022" in span)


@pytest.mark.parametrize("bucket", ["hour", "day", "week", "month", "year"])
async def test_ranges_at_the_ends_of_time_are_empty(api: Api, bucket: str) -> None:
    """Also where an offset or a whole bucket leads beyond them."""
    for span in (
        "startTime=0001-01-01T00:00:00%2B14:00&endTime=0001-01-02T00:00:00Z",
        "endTime=0001-01-01T00:00:00%2B14:00",
        "endTime=0002-01-01T00:00:00%2B14:00",
        "startTime=9999-12-31T00:00:00Z&endTime=9999-12-31T23:59:59.999999999-14:00",
        "startTime=9998-12-31T23:00:00Z&endTime=9998-12-31T23:59:59-14:00",
        "startTime=9999-12-31T23:59:59-14:00",
    ):
        for path in PATHS:
            assert await records(api, f"bucketSize={bucket}&{span}", path) == [], span


async def test_other_errors_are_messages_too(pool: Pool, api: Api) -> None:
    """401, 404, 405 and 429, with their headers."""
    closed = HttpSettings(open_to=(), anonymous_per_minute=0)
    async with served(pool, closed) as stranger:
        answer = await stranger.get(PODS)
        assert (answer.status, list(answer.json())) == (401, ["message"])
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    for path in (f"{PODS}/job-1", "/v1/billing/nope", "/v1/billing", "/v1/pods", "/V1/"):
        answer = await api.get(path)
        assert (answer.status, list(answer.json())) == (404, ["message"]), path
    answer = await api.ask("PUT", PODS, data=b"x")
    assert (answer.status, list(answer.json())) == (405, ["message"])
    assert answer.headers["Allow"] == "GET,HEAD"
    async with served(pool, HttpSettings(requests_per_minute=1)) as slow:
        await slow.get(PODS)
        answer = await slow.get(PODS)
    assert (answer.status, list(answer.json())) == (429, ["message"])
    assert int(answer.headers["Retry-After"]) > 0


async def test_pods_are_selected_by_model_and_id_exactly(api: Api, charges: Charges) -> None:
    """Spaces and case included; NPUs count; what nobody metered is an empty list."""
    for number, model in enumerate(("NVIDIA A30", "NVIDIA  A30", "nvidia a30", "Ascend 910B")):
        item = charges.item(f"job-{number}", "npu" if number == 3 else "gpu", model=model)
        charges.charge(item, 2**number)
    charges.charge(charges.item("job-0", "cpu"), 100)
    charges.charge(charges.item("no-device", "cpu"), 1000)
    charges.roll_up()
    for model, amount in (
        ("NVIDIA A30", 101), ("NVIDIA  A30", 2), ("nvidia a30", 4), ("Ascend 910B", 8),
    ):  # fmt: skip
        for grouping, id_ in (("gpuTypeId", model), ("podId", f"job-{amount.bit_length() - 1}")):
            query = f"{FEBRUARY}&grouping={grouping}&gpuTypeId={quote(model)}"
            found = [(each[grouping], each["amount"]) for each in await records(api, query)]
            assert found == [("job-0" if amount == 101 and grouping == "podId" else id_, amount)]
    for model in ("NVIDIA%20a30", "NVIDIA%20A30%20", "NVIDIA%20H200", "%00", "%ED%A0%80"):
        assert await records(api, f"{FEBRUARY}&gpuTypeId={model}") == []
    shown = await records(api, FEBRUARY)
    assert [each["gpuTypeId"] for each in shown] == [
        "Ascend 910B", "NVIDIA  A30", "NVIDIA A30", "nvidia a30",
    ]  # fmt: skip
    shown = await records(api, f"{FEBRUARY}&grouping=podId")
    assert [each["podId"] for each in shown] == ["job-0", "job-1", "job-2", "job-3", "no-device"]
    for query, expected in (("podId=job-0", [101]), ("podId=JOB-0", []), ("podId=no-device", [])):
        assert [each["amount"] for each in await records(api, f"{FEBRUARY}&{query}")] == expected
    query = f"{FEBRUARY}&grouping=podId&podId=no-device"
    assert [each["amount"] for each in await records(api, query)] == [1000]
    query = f"{FEBRUARY}&podId=job-0&bucketSize=hour&page=2"
    assert [each["amount"] for each in await records(api, query)] == [101]


async def test_the_list_of_the_original_is_documented(api: Api) -> None:
    """49 names, two of them with two spaces; others are strings like any."""
    parameters = (await api.get("/openapi.json")).json()["paths"][PODS]["get"]["parameters"]
    schema = next(each["schema"] for each in parameters if each["name"] == "gpuTypeId")
    assert '"Tesla T4"' in json.dumps(schema)
    assert len(set(GPU_TYPES)) == 49
    assert sum("  " in each for each in GPU_TYPES) == 2


async def test_the_live_variant_replaces_the_other(pool: Pool, charges: Charges) -> None:
    """Never both."""
    gpu = charges.item("job-1", model=H200)
    charges.charge(gpu, 1, at=at("2026-04-06T15:00:00"))
    charges.roll_up()

    def as_live(app: web.Application) -> None:
        app[PODS_LIVE] = True

    async with served(pool, prepare=as_live) as api:
        answer = await api.get(
            f"{PODS}?bucketSize=hour&startTime=2026-04-06T15:00:00Z&endTime=2026-04-06T16:00:00Z"
        )
    assert answer.body == (
        b'[{"amount":1,"diskSpaceBilledGB":0,"gpuTypeId":"NVIDIA H200",'
        b'"time":"2026-04-06 15:00:00","timeBilledMs":3600000}]'
    )


def test_the_document_says_which_variant_is_written(pool: Pool) -> None:
    """By the setting, as the answers are."""
    for is_live, name in ((False, "BillingRecord"), (True, "LiveBillingRecord")):
        app = build_app(Settings(pods=PodsSettings(live_variant=is_live)), pool, Metrics())
        assert app[PODS_LIVE] is is_live
        document: Json = json.loads(json.dumps(app[DOCUMENT]))
        for path in PATHS:
            answer = document["paths"][path]["get"]["responses"]["200"]
            schema = answer["content"]["application/json"]["schema"]
            assert schema["items"] == {"$ref": f"#/components/schemas/{name}"}


HOSTILE = (
    "'; DROP TABLE bill; --", "a\r\nSet-Cookie: x", "\x00", "\ud800", "\u202eevil", "😀" * 9,
    "<script>alert(1)</script>", "%s%(x)s{}", "\\", "a" * 5000,
)  # fmt: skip


async def test_hostile_values_find_nothing_and_are_not_echoed(
    api: Api, charges: Charges, caplog: pytest.LogCaptureFixture
) -> None:
    """In every parameter: an empty list, or a message that does not repeat them."""
    charges.charge(charges.item("job-1", model=H200), 1)
    charges.roll_up()
    for value in HOSTILE:
        sent = quote(value, errors="surrogatepass", safe="")
        for path, names in (
            (PATHS[0], ("podId", "gpuTypeId")),
            (PATHS[1], ("endpointId", "gpuTypeId")),
            (PATHS[2], ("networkVolumeId",)),
        ):
            for name in names:
                answer = await api.get(f"{path}?{name}={sent}")
                assert (answer.status, answer.body) == (200, b"[]")
            for name in ("bucketSize", "startTime", "endTime"):
                answer = await api.get(f"{path}?{name}={sent}")
                assert answer.status == 400
                assert value[:20] not in answer.json()["message"]
        answer = await api.get(f"{PODS}?{sent[:2000]}={sent[:2000]}&grouping=podId")
        assert answer.status == 200
    assert "\r" not in caplog.text
    assert "DROP TABLE" not in re.sub(r"%20|%27", "", caplog.text.replace("DROP%20TABLE", ""))


async def test_names_of_nodes_come_as_they_are(api: Api, charges: Charges) -> None:
    """As JSON strings, whatever they hold."""
    names = [each for each in HOSTILE if "\x00" not in each and "\ud800" not in each]
    for name in names:
        charges.charge(charges.item(name, model=name), 1)
    charges.roll_up()
    for grouping in ("podId", "gpuTypeId"):
        found = await records(api, f"{FEBRUARY}&grouping={grouping}")
        assert sorted(each[grouping] for each in found) == sorted(names)
        order = [each[grouping].encode() for each in found]
        assert order == sorted(order)
    for name in names[:4]:
        found = await records(api, f"{FEBRUARY}&grouping=podId&podId={quote(name)}")
        assert [each["podId"] for each in found] == [name]


async def test_a_scope_bounds_what_is_summed(api: Api, charges: Charges) -> None:
    """Also where no id is shown: storage, and models."""
    for number, vc in enumerate(("mine", "foreign")):
        charges.charge(charges.item(f"{vc}-job", model=f"{vc}-gpu", vc=vc), 10**number)
        charges.charge(charges.item(f"{vc}-job", "storage", quota=954, vc=vc), 10**number)
    charges.roll_up()
    token = (await api.post("/api/admin/v1/tokens", {"name": "t", "vcName": "mine"})).json()
    bearer = {"Authorization": f"Bearer {token['token']}"}
    for bucket in ("hour", "day"):
        for path, query, amounts in (
            (PATHS[0], "", [2]),
            (PATHS[0], "&grouping=podId", [2]),
            (PATHS[0], "&gpuTypeId=foreign-gpu", []),
            (PATHS[0], "&podId=foreign-job", []),
            (PATHS[0], "&grouping=podId&gpuTypeId=foreign-gpu", []),
            (PATHS[2], "", [1]),
            (PATHS[2], "&networkVolumeId=foreign-job", []),
        ):
            span = FEBRUARY.replace("03-01", "02-28")
            answer = await api.get(f"{path}?{span}&bucketSize={bucket}{query}", **bearer)
            assert [each["amount"] for each in answer.json()] == amounts, (path, query)
            assert "foreign" not in answer.text


async def test_a_long_answer_is_streamed_whole(api: Api, rows: Rows) -> None:
    """Each record once and in order, beyond what is read at a time."""
    rows.connection.execute(
        """
        WITH item AS (
            INSERT INTO bill (bill_id, run_id, cluster, node, job_id, job_name, user_id, username,
                vc, project, namespace, kind, type, quota, started_at, ended_at, allocated, used,
                effective, billed, unpriced, length_ms, observed_ms, amount, is_mixed,
                item_class_id, first_day, last_day)
            SELECT gen_random_uuid(), 0, 'c1', 'n', 'job-' || n, 'x', gen_random_uuid(), NULL,
                'vc', 'p', '', 'job', 'cpu', 1, '2026-02-06', '2026-02-07',
                0, 0, 0, 0, 0, 0, 0, 0, false, 0, '2026-02-06', '2026-02-06'
            FROM generate_series(1, 4000) AS n RETURNING bill_id
        )
        INSERT INTO daily SELECT '2026-02-06', bill_id, 5, 0, 0, 0, 0, 5, 0, 0 FROM item
        """
    )
    found = await records(api, f"{FEBRUARY}&grouping=podId")
    ids = [each["podId"] for each in found]
    assert (len(set(ids)), ids) == (4000, sorted(ids))
