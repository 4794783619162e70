"""Claims about the administrators' endpoints."""

import asyncio
from datetime import UTC, datetime, timedelta
from io import BytesIO
from time import monotonic

from tests.integration.aggregator.api.client import Api
from tests.integration.aggregator.rows import Rows

RATIOS = "/api/admin/v1/ratios"
HOUR_MS = 3_600_000


async def test_exact_prices_come_and_go_as_strings(api: Api) -> None:
    """A JSON number is a double to most readers; a string keeps every digit."""
    value = "0.1234567890123456789012345"
    done = await api.post(RATIOS, {"key": "gpu:NVIDIA H200@vc1", "value": value})
    assert done.status == 200
    change = done.json()
    assert change.pop("effectiveAt").endswith(":00Z")
    assert change == {
        "key": "gpu:NVIDIA H200@vc1",
        "action": "add",
        "old": None,
        "new": value,
        "effectiveUntil": None,
        "warnings": [],
    }
    assert (await api.get(RATIOS)).json() == [
        {
            "key": "gpu:NVIDIA H200@vc1",
            "value": value,
            "type": "gpu",
            "model": "NVIDIA H200",
            "vc": "vc1",
            "startsAt": None,
            "endsAt": None,
            "isScheduled": False,
        }
    ]


async def test_a_shadow_is_told_when_it_is_cast(api: Api) -> None:
    """Whichever of the two keys is set last."""
    await api.post(RATIOS, {"key": "gpu:NVIDIA H200", "value": 5})
    change = (await api.post(RATIOS, {"key": "gpu@vc1", "value": 1})).json()
    (warning,) = change["warnings"]
    assert "gpu:NVIDIA H200@vc1" in warning


async def test_a_history_tells_who_when_and_why(api: Api) -> None:
    """Newest first; of one key or of all."""
    await api.post(RATIOS, {"key": "cpu", "value": 1, "reason": "start"})
    await api.post(RATIOS, {"key": "cpu", "value": 2, "reason": "contract 7"})
    await api.post(RATIOS, {"key": "mem", "value": 0})
    new, old = (await api.get(f"{RATIOS}/history?key=cpu")).json()
    assert (new["value"], new["reason"], new["endsAt"]) == ("2", "contract 7", None)
    assert (old["value"], old["closedBy"]) == ("1", "admin@127.0.0.1")
    assert old["endsAt"] == new["startsAt"]
    assert len((await api.get(f"{RATIOS}/history")).json()) == 3
    assert (await api.get(f"{RATIOS}/history?key=gpu")).json() == []


async def test_a_change_is_scheduled_for_a_whole_minute_in_the_future(api: Api) -> None:
    """Any offset; the past is a conflict, anything else names the field."""
    later = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(hours=1)  # noqa: TID251
    body = {"key": "cpu", "value": 1, "startsAt": later.isoformat()}
    change = (await api.post(RATIOS, body)).json()
    assert datetime.fromisoformat(change["effectiveAt"]) == later
    for start, status in (
        ("2020-01-01T00:00:00Z", 409),
        ("2999-01-01T00:00:30Z", 400),
        ("2999-01-01T00:00:00", 400),
        ("0001-01-01T00:00:00+23:00", 400),
        ("2999-01-01", 400),
        ("soon", 400),
        (7, 400),
    ):
        answer = await api.post(RATIOS, body | {"startsAt": start})
        assert (answer.status, list(answer.json()["errors"])) == (status, ["startsAt"]), start


async def test_a_ratio_is_deleted_by_a_parameter(api: Api) -> None:
    """So that a key of dots can be, too."""
    await api.post(RATIOS, {"key": "..", "value": 1})
    gone = await api.delete(f"{RATIOS}?key=..&reason=typo")
    assert (gone.status, gone.json()["action"], gone.json()["old"]) == (200, "delete", "1")
    assert (await api.delete(f"{RATIOS}?key=..")).status == 404
    missing = await api.delete(RATIOS)
    assert (missing.status, list(missing.json()["errors"])) == (400, ["key"])


async def test_an_import_is_tried_and_then_done(api: Api) -> None:
    """The dry run shows the same differences and changes nothing."""
    await api.post(RATIOS, {"key": "cpu", "value": 1})
    body = {"ratios": {"mem": "0.5"}, "replacesAll": True, "isDryRun": True}
    dry = (await api.post(f"{RATIOS}/import", body)).json()
    assert [(each["key"], each["action"]) for each in dry] == [("mem", "add"), ("cpu", "delete")]
    assert [each["key"] for each in (await api.get(RATIOS)).json()] == ["cpu"]
    await api.post(f"{RATIOS}/import", body | {"isDryRun": False})
    assert [each["key"] for each in (await api.get(RATIOS)).json()] == ["mem"]


async def test_a_bad_line_of_an_import_is_named_and_nothing_is_applied(api: Api) -> None:
    """By its key."""
    for bad, field in (
        (b'"mem": -1', "ratios.mem"),
        (b'"mem": "x"', "ratios.mem"),
        (b'"mem": null', "ratios.mem"),
        (b'"mem": {}', "ratios.mem"),
        (b'"": 1', "ratios..[key]"),
        (b'"cpu": 2', "cpu"),
    ):
        answer = await api.post(f"{RATIOS}/import", b'{"ratios": {"cpu": 1, %b}}' % bad)
        assert (answer.status, list(answer.json()["errors"])) == (400, [field]), bad
    assert (await api.post(f"{RATIOS}/import", {"ratios": []})).status == 400
    assert (await api.get(RATIOS)).json() == []


async def test_faults_beyond_twenty_are_counted(api: Api) -> None:
    """An answer stays short, whatever is wrong; a name that is long is cut."""
    bad: dict[str, object] = {f"k{number}{'x' * 200}": -1 for number in range(1_000)}
    answer = await api.post(f"{RATIOS}/import", {"ratios": bad})
    assert len(answer.json()["errors"]) == 20
    assert answer.json()["detail"].endswith("; and 980 more like these")
    twice = b",".join(b'"k%d": 1, "k%d": 1' % (number, number) for number in range(1_000))
    for body in (b'{"ratios": {%b}}' % twice, b"{%b}" % twice):
        told = await api.post(f"{RATIOS}/import", body)
        assert (told.status, len(told.json()["errors"])) == (400, 20)
        assert told.json()["detail"].endswith("; and 980 more like these")
    assert len(answer.body) < 10_000


async def test_more_than_a_price_list_holds_is_refused_unread(api: Api) -> None:
    """With the bound; one fault, however many there are within."""
    many: dict[str, object] = {f"\0{number}": -1 for number in range(10_001)}
    answer = await api.post(f"{RATIOS}/import", {"ratios": many})
    assert answer.json()["errors"] == {"ratios": ["may hold at most 10000 prices, not 10001"]}
    answer = await api.post(f"{RATIOS}/import", many)
    assert answer.json()["errors"] == {"body": ["may have at most 100 properties"]}


async def test_a_large_body_keeps_nobody_waiting(api: Api) -> None:
    """Others are answered while it is read."""
    body = BytesIO(b'{"ratios": [' + b"1," * 1_900_000 + b"1]}")
    sent = {"Content-Type": "application/json"}
    began = monotonic()
    refused = asyncio.create_task(
        api.ask("POST", f"{RATIOS}/import", data=body, headers=sent), name="import"
    )
    waits: list[float] = []
    while not refused.done():
        asked = monotonic()
        await asyncio.sleep(0.001)
        assert (await api.get("/healthz")).status == 200
        waits.append(monotonic() - asked)
    assert (await refused).status == 400
    assert max(waits) < (monotonic() - began) / 2


async def test_a_check_lists_what_is_wrong(api: Api, rows: Rows) -> None:
    """Keys that match nothing, shadows, usage without a price."""
    rows.price_class("mem")
    rows.bill(type_="mem", unpriced=1024 * HOUR_MS)
    for key in ("tokens", "gpu:NVIDIA H200", "gpu@vc1"):
        await api.post(RATIOS, {"key": key, "value": 1})
    found = (await api.get(f"{RATIOS}/check")).json()
    assert [each["key"] for each in found["matchingNothing"]] == [
        "gpu:NVIDIA H200",
        "gpu@vc1",
        "tokens",
    ]
    assert [each["remedy"] for each in found["shadowed"]] == ["gpu:NVIDIA H200@vc1"]
    (unpriced,) = found["unpriced"]
    assert (unpriced["type"], unpriced["hours"], unpriced["pricedBy"]) == ("mem", 1, None)


async def test_nodes_are_listed(api: Api, rows: Rows) -> None:
    """With what they have, and whether they live."""
    node_id = rows.node("n1")
    rows.run("job-1", node_id=node_id, is_live=True)
    (node,) = (await api.get("/api/admin/v1/nodes")).json()
    assert (node["name"], node["address"], node["isAlive"], node["liveJobs"]) == (
        "n1",
        "10.0.0.7",
        True,
        1,
    )
    assert node["devices"] == [{"type": "gpu", "id": "GPU-1", "model": "NVIDIA H200"}]
    assert node["memMi"] == 16384


CONSERVATION = "/api/admin/v1/nodes/conservation"


async def test_what_became_of_a_nodes_capacity_is_shown_in_unit_hours(api: Api, rows: Rows) -> None:
    """The node first, then each device; a capacity that nobody told is null."""
    node_id = rows.node("n1")
    rows.account(node_id, "capacity", 126_000 * HOUR_MS)
    rows.account(node_id, "idle", 31_500 * HOUR_MS)
    rows.account(node_id, "idle", 1_000 * HOUR_MS, type_="cpu", device=None)
    asked = f"{CONSERVATION}?node=n1&from=2026-02-06T12:00:00Z&to=2026-02-06T12:01:00Z"
    cpu, whole, device = (await api.get(asked)).json()
    assert whole == {
        "hour": "2026-02-06T12:00:00Z",
        "type": "gpu",
        "device": None,
        "model": None,
        "unit": "number",
        "capacity": 1,
        "jobs": 0,
        "idle": 0.25,
        "unattributed": 0,
        "down": 0,
        "excess": 0,
        "difference": 0.75,
    }
    assert device == whole | {"device": "GPU-1"}
    assert (cpu["unit"], cpu["idle"], cpu["capacity"], cpu["difference"]) == ("m", 1000, None, None)
    assert (await api.get(f"{CONSERVATION}?node=n1")).json() == []


async def test_a_question_for_a_nodes_hours_that_cannot_be_answered_is_refused(
    api: Api, rows: Rows
) -> None:
    """With what is wrong with it."""
    rows.node("n1")
    assert (await api.get(f"{CONSERVATION}?node=n2")).status == 404
    for query, field in (
        ("", "node"),
        ("?node=n1&from=yesterday", "from"),
        ("?node=n1&to=2026-02-06T12:00:01Z", "to"),
        ("?node=n1&from=2026-02-06T12:00:00Z&to=2026-02-06T12:00:00Z", "from"),
    ):
        answer = await api.get(CONSERVATION + query)
        assert (answer.status, list(answer.json()["errors"])) == (400, [field]), query


async def test_usage_details_show_what_was_measured(api: Api, rows: Rows) -> None:
    """Allocated, used, effective and coverage, by the same filters as the Bill API."""
    rows.bill("a", billed=2 * HOUR_MS, length_ms=60_000, observed_ms=45_000)
    rows.bill("b", type_="gpu", quota=126_000)
    (item,) = (await api.get("/api/admin/v1/usages?jobId=a")).json()
    assert (item["allocated"], item["used"], item["effective"]) == (2, 1, 2)
    assert (item["coverage"], item["unit"], item["usage"]) == (0.75, "m", 2)
    (item,) = (await api.get("/api/admin/v1/usages?type=gpu")).json()
    assert (item["quota"], item["unit"], item["coverage"]) == (1, "number", None)
    assert (await api.get("/api/admin/v1/usages?jobId=%00")).json() == []
