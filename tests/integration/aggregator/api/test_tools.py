"""Claims about methods, quotas, currencies, quotes and explanations over HTTP."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tests.integration.aggregator.api.client import Api
from tests.integration.aggregator.api.test_admin_command import refused, run, url
from tests.integration.aggregator.rater.pipeline import Pipeline, midnight
from tests.integration.aggregator.rows import Rows

ADMIN = "/api/admin/v1"
HOUR = timedelta(hours=1)


def range_of(start: datetime, end: datetime) -> str:
    return f"from={start:%Y-%m-%dT%H:%M:00Z}&to={end:%Y-%m-%dT%H:%M:00Z}"


async def test_a_method_is_set_from_the_next_minute_on(api: Api) -> None:
    """What was used keeps the method of its time; who and why are kept."""
    before = (await api.get(f"{ADMIN}/methods")).json()
    assert {each["method"] for each in before} == {"effective"}
    body = {"type": "cpu", "method": "request", "reason": "contract"}
    done = (await api.post(f"{ADMIN}/methods", body)).json()
    assert (done["old"], done["new"]) == ("effective", "request")
    assert datetime.fromisoformat(done["effectiveAt"]).second == 0
    assert (await api.post(f"{ADMIN}/methods", body)).json()["effectiveAt"] is None
    new, old = (await api.get(f"{ADMIN}/methods/history?type=cpu")).json()
    assert (new["reason"], new["startsAt"], old["startsAt"]) == ("contract", old["endsAt"], None)
    past = await api.post(f"{ADMIN}/methods", body | {"startsAt": "2020-01-01T00:00:00Z"})
    assert past.status == 409
    assert (await api.post(f"{ADMIN}/methods", body | {"method": "mean"})).status == 400


async def test_a_quota_is_reserved_for_a_project_that_is_known(api: Api, rows: Rows) -> None:
    """Or said to be new; quota x hours is shown, used or not."""
    body: dict[str, object] = {"project": "vison", "type": "mem", "quantity": 2048}
    rows.connection.execute(
        "UPDATE run SET project = 'vision' WHERE run_id = %s", (rows.run("job-1"),)
    )
    unknown = await api.post(f"{ADMIN}/quotas", body)
    assert (unknown.status, "known ones are vision" in unknown.text) == (409, True)
    assert (await api.get(f"{ADMIN}/quotas")).json() == []
    assert (await api.post(f"{ADMIN}/quotas", body | {"isNew": True})).status == 200
    start = datetime(2999, 1, 1, tzinfo=UTC)
    later = body | {"project": "vision", "startsAt": "2999-01-01T00:00:00Z"}
    done = (await api.post(f"{ADMIN}/quotas", later)).json()
    assert (done["action"], done["new"], done["unit"]) == ("add", 2048, "Mi")
    asked = f"{ADMIN}/quotas/reserved?project=vision&"
    (line,) = (await api.get(asked + range_of(start - 9 * HOUR, start + 2 * HOUR))).json()
    assert line == {"project": "vision", "type": "mem", "unit": "Mi", "hours": 4096}
    gone = await api.delete(f"{ADMIN}/quotas?project=vision&type=mem")
    assert gone.json()["action"] == "delete"
    assert (await api.delete(f"{ADMIN}/quotas?project=vision&type=mem")).status == 404
    assert (await api.get(asked + range_of(start, start + HOUR))).json() == []
    for wrong, status in ((-1, 400), ("NaN", 400), ("1e3", 400), (0.00001, 409), (10**14, 409)):
        answer = await api.post(f"{ADMIN}/quotas", body | {"quantity": wrong})
        assert answer.status == status, wrong


async def test_a_rate_holds_from_its_day_on(api: Api) -> None:
    """An unknown currency, a day that began and the base currency are refused."""
    path = f"{ADMIN}/currencies"
    assert (await api.post(path, {"currency": "EUR", "rate": "0.92"})).status == 200
    body: dict[str, object] = {"currency": "EUR", "rate": 1, "startsOn": "2026-01-01"}
    assert (await api.post(path, body)).json()["startsOn"] == "2026-01-01"
    assert (await api.post(path, body)).json()["startsOn"] is None
    for fault, status, words in (
        ({"rate": 2}, 409, "has a rate already"),
        ({"currency": "XYZ"}, 409, "no known currency; those are AUD"),
        ({"currency": "USD"}, 409, "base currency"),
        ({"rate": 0}, 409, "more than 0"),
        ({"rate": "1,5"}, 400, "must be a number"),
        ({"startsOn": "2026-02-30"}, 400, "must be a day"),
    ):
        answer = await api.post(path, body | fault)
        assert (answer.status, words in answer.text) == (status, True), fault
    rates = (await api.get(path)).json()
    assert [(each["rate"], each["startsOn"]) for each in rates][1] == ("1", "2026-01-01")
    assert rates[1]["endsOn"] == rates[0]["startsOn"]


async def test_a_quote_says_what_has_no_price(api: Api, rows: Rows) -> None:
    """And which model nobody has; otherwise it is quantity x hours x price."""
    rows.node("n1")
    await api.post(f"{ADMIN}/ratios", {"key": "gpu:NVIDIA H200", "value": 2.5})
    gpu = {"type": "gpu", "model": "NVIDIA H200", "quantity": 4}
    body: dict[str, object] = {"resources": [gpu], "hours": 12}
    found = (await api.post(f"{ADMIN}/quote", body)).json()
    assert (found["total"], found["currency"], found["lines"][0]["warnings"]) == (120, "USD", [])
    body["resources"] = [gpu, gpu | {"model": "NVIDIA H20"}, {"type": "cpu", "quantity": 1}]
    found = (await api.post(f"{ADMIN}/quote", body)).json()
    assert (found["total"], [line["fee"] for line in found["lines"]]) == (None, [120, None, None])
    (model, price) = found["lines"][1]["warnings"]
    assert "known ones are NVIDIA H200" in model
    assert "no price" in price
    for hours in (0, 10_001, "0.0000001"):
        assert (await api.post(f"{ADMIN}/quote", body | {"hours": hours})).status == 409


async def test_a_fee_is_explained_to_the_last_digit(api: Api, pipeline: Pipeline) -> None:
    """Segments with their versions; the sums give what the bill prints."""
    start = midnight()
    pipeline.ratio("cpu", "0.3", ends_at=start + HOUR / 2)
    pipeline.ratio("cpu", "0.7", start + HOUR / 2)
    await pipeline.bill(pipeline.use(start, start + HOUR, 7, used=3))
    (bill,) = (await api.get("/api/Bills")).json()
    found = (await api.get(f"{ADMIN}/bills/explanation?id={bill['id']}")).json()
    first, second = found["segments"]
    assert (first["key"], first["price"], second["price"]) == ("cpu", "0.3", "0.7")
    assert (first["method"], first["priceSetBy"], first["kind"]) == ("effective", "test", "charge")
    amount = sum(Decimal(each["amount"]) for each in found["segments"])
    assert float(amount / found["unitHour"]) == found["fee"] == bill["fee"] == 3.5
    shown = await run("--url", url(api), "bills", "explain", bill["jobId"])
    assert (shown.status, "= 3.5" in shown.out, "Printed   3.5" in shown.out) == (0, True, True)
    nobody = f"{ADMIN}/bills/explanation?id=00000000-0000-0000-0000-000000000001"
    assert (await api.get(nobody)).status == 404


async def test_where_there_is_nothing_a_sentence_says_so(api: Api) -> None:
    """Beside the head of the empty table; what nobody ever set is none."""
    for words, sentence in (
        (["ratios", "list"], "no price is in force: `nodemeter ratios set gpu 2.5` sets one"),
        (["ratios", "history"], "no price was ever set"),
        (["ratios", "history", "nokey"], "no price was ever set for nokey"),
        (["quotas", "list"], "nothing is reserved"),
        (["quotas", "list", "ghost"], "nothing is reserved for the project ghost"),
        (["quotas", "history", "ghost"], "nothing was ever reserved for the project ghost"),
        (["users"], "no job of any user was metered yet"),
        (["nodes"], "no agent has reported yet"),
        (["currencies", "list"], "no rates are declared: all money is in the base currency"),
        (["tokens", "list"], "there was never a token: `nodemeter tokens create NAME` makes one"),
    ):
        done = await run("--url", url(api), *words)
        assert (done.status, done.err) == (0, f"{sentence}\n"), words


async def test_the_commands_say_what_is_wrong_with_a_call(api: Api) -> None:
    """In their own words, and nothing is changed."""
    for words, message in (
        (
            ["methods", "set", "cpu", "usages"],
            "is no method: those are effective, request, usage; did you mean usage?",
        ),
        (["methods", "set", "CPU", "usage"], "'CPU' is no type: those are cpu, mem"),
        (["methods", "history", "disk"], "'disk' is no type"),
        (["methods", "set", "cpu", "usage", "--from", "2020-01-01T00:00:00Z"], "--from must be in"),
        (["quotas", "set", "vision", "cpu", "5x"], "'5x' is no quantity like 500m"),
        (["quotas", "set", "vision", "cpu", "500m"], "say that it is new with --new"),
        (["currencies", "set", "XYZ", "1"], "'XYZ' is no known currency"),
        (["currencies", "set", "EUR", "1", "--from", "soon"], "--from 'soon' is no day"),
        (["quote", "--hours", "1"], "say what the job needs"),
        (["quote", "--cpu", "1", "--hours", "0"], "--hours must be more than 0"),
        (["quote", "--cpu", "0", "--hours", "1"], "--cpu must be"),
        (["quote", "--gpu", "a\x01=1", "--hours", "1"], "--gpu must not hold control characters"),
        (["quote", "--cpu", "1", "--hours", "1", "--at", "soon"], "--at must be a whole minute"),
        (["quotas", "set", "vision", "cpus", "1"], "'cpus' is no type: those are cpu, mem"),
        (["bills", "--type", "cpus"], "'cpus' is no type: those are cpu, mem, gpu, npu, storage"),
        (["usages", "--type", "CPU"], "did you mean cpu?"),
        (["tokens", "create", ""], "the name must not be empty"),
        (["ratios", "history", "\x01"], "the key must not hold control characters"),
        (["bills", "explain", "nothing"], "no bill item has the id or the job 'nothing'"),
        (["reconcile", "--from", "now", "--to", "later"], "'now' is no whole minute"),
    ):
        assert message in await refused(api, *words), words
