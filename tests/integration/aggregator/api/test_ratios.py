"""Claims about ratios in the Bill API: what is taken, what is refused, what remains."""

import json
from collections.abc import AsyncGenerator
from io import BytesIO
from urllib.parse import quote

from aggregator.api.parse import SMALL_BODY
from tests.integration.aggregator.api.client import Answer, Api
from tests.integration.aggregator.rows import Rows


def stored(rows: Rows) -> list[tuple[str, str]]:
    found = rows.connection.execute("SELECT key, value::text FROM ratio ORDER BY ratio_id")
    return [(str(key), str(value)) for key, value in found]


async def test_a_ratio_is_set_changed_shown_and_deleted(api: Api) -> None:
    """200 with an empty body, read back at once, 204, gone at once."""
    for value in (10, 12.5):
        done = await api.post("/api/Ratios", {"key": "cpu", "value": value})
        assert (done.status, done.body) == (200, b"")
        shown = await api.get("/api/Ratios")
        assert shown.text == f'[{{"key":"cpu","value":{value}}}]'
    gone = await api.delete("/api/Ratios/cpu")
    assert (gone.status, gone.body) == (204, b"")
    assert (await api.get("/api/Ratios")).text == "[]"


async def test_deleting_an_unknown_key_is_404_with_a_plain_string(api: Api) -> None:
    """As the contract says: a string, no problem object."""
    answer = await api.delete("/api/Ratios/unknown")
    assert answer.status == 404
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.text == "There is no ratio with this key"


KEYS = [
    "gpu:NVIDIA H200@vc1",
    r"gpu:A\:B\@C",
    "a/b",
    "a//b/",
    "100%",
    "%2F",
    "日本 ?#&=+;",
    "..",
    "a/../b",
]


async def test_any_key_can_be_deleted_percent_encoded(api: Api) -> None:
    """Slashes, per cent signs and dots included."""
    for key in KEYS:
        await api.post("/api/Ratios", {"key": key, "value": 1})
        assert [each["key"] for each in (await api.get("/api/Ratios")).json()] == [key]
        assert (await api.delete(f"/api/ratios/{quote(key, safe='')}")).status == 204, key
    assert (await api.get("/api/Ratios")).json() == []


async def test_a_key_that_cannot_be_is_not_found(api: Api) -> None:
    """The database is not asked."""
    for key in ("%00", "%0A", "%FF", "a" * 600):
        answer = await api.delete(f"/api/Ratios/{key}")
        assert (answer.status, answer.headers["Content-Type"][:10]) == (404, "text/plain"), key


KEPT = [
    (b"10", "10"),
    (b"0.1", "0.1"),
    (b"0.30000000000000004", "0.30000000000000004"),
    (b"0.1234567890123456789012345678901", "0.1234567890123456789012345678901"),
    (b"1e3", "1000"),
    (b"1E-7", "0.0000001"),
    (b"0", "0"),
    (b"-0", "0"),
    (b"999999999999999", "999999999999999"),
]


async def test_a_value_is_kept_as_it_was_sent(api: Api, rows: Rows) -> None:
    """The decimal digits of the body, not a double of them."""
    for index, (sent, _) in enumerate(KEPT):
        body = b'{"key":"k%d","value":%b}' % (index, sent)
        assert (await api.post("/api/Ratios", body)).status == 200, sent
    assert stored(rows) == [(f"k{index}", kept) for index, (_, kept) in enumerate(KEPT)]
    shown = [each["value"] for each in (await api.get("/api/Ratios")).json()]
    assert shown == [float(sent) for sent, _ in KEPT]


REFUSED = [
    (b"{}", ["key", "value"]),
    (b'{"key":"cpu"}', ["value"]),
    (b'{"value":1}', ["key"]),
    (b'{"key":"cpu","value":null}', ["value"]),
    (b'{"key":null,"value":1}', ["key"]),
    (b'{"key":"","value":1}', ["key"]),
    (b'{"key":7,"value":1}', ["key"]),
    (b'{"key":"a\\u0000b","value":1}', ["key"]),
    (b'{"key":"\\ud800","value":1}', ["key"]),
    (b'{"key":"' + b"a" * 513 + b'","value":1}', ["key"]),
    (b'{"key":"cpu","value":"1"}', ["value"]),
    (b'{"key":"cpu","value":true}', ["value"]),
    (b'{"key":"cpu","value":[1]}', ["value"]),
    (b'{"key":"cpu","value":-1}', ["value"]),
    (b'{"key":"cpu","value":-0.0000001}', ["value"]),
    (b'{"key":"cpu","value":1e15}', ["value"]),
    (b'{"key":"cpu","value":1e400}', ["value"]),
    (b'{"key":"cpu","value":1e-401}', ["value"]),
    (b'{"key":"cpu","value":1e99999999999999999999}', ["body"]),
    (b'{"key":"cpu","value":NaN}', ["body"]),
    (b'{"key":"cpu","value":Infinity}', ["body"]),
    (b'{"key":"cpu","value":-Infinity}', ["body"]),
    (b'{"key":"cpu","value":1,"note":"x"}', ["note"]),
    (b'{"Key":"cpu","value":1}', ["key", "Key"]),
    (b'{"key":"cpu","value":1,"value":2}', ["value"]),
    (b"[]", ["body"]),
    (b"null", ["body"]),
    (b"7", ["body"]),
    (b'"cpu"', ["body"]),
    (b"", ["body"]),
    (b"{", ["body"]),
    (b'{"key":"cpu","value":1}}', ["body"]),
    (b"\xff", ["body"]),
    (b"[" * 60_000, ["body"]),
    (b'{"key":"cpu","value":' + b"9" * 60_000 + b"}", ["value"]),
]


async def test_a_bad_body_is_refused_by_its_field(api: Api, rows: Rows) -> None:
    """400 as a problem; nothing is stored."""
    for body, fields in REFUSED:
        answer = await api.post("/api/Ratios", body)
        assert answer.status == 400, body[:80]
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert list(answer.json()["errors"]) == fields, body[:80]
    assert stored(rows) == []


LONE = [
    b'{"\\ud800":1,"\\ud800":2}',
    b'{"key":"cpu","value":1,"\\udfff":1}',
    b'{"key":"cpu","value":"\\ud800"}',
    b'{"key":"cpu","value":{"\\ud800":["\\ud800"]}}',
    b'{"key":"cpu","reason":"\\ud800","value":1}',
    b'{"key":"cpu","startsAt":"\\ud800","value":1}',
    b'{"ratios":{"\\ud800":1}}',
    b'{"ratios":{"cpu":"\\ud800"}}',
    b'"\\ud800"',
]


async def test_a_lone_surrogate_anywhere_is_refused(api: Api, rows: Rows) -> None:
    """JSON can say it and UTF-8 cannot: the answer shows it as it was written."""
    for path in ("/api/Ratios", "/api/admin/v1/ratios", "/api/admin/v1/ratios/import"):
        for body in LONE:
            answer = await api.post(path, body)
            assert answer.status == 400, (path, body)
            assert answer.json()["requestId"], (path, body)
        twice = (await api.post(path, LONE[0])).json()
        assert twice["errors"] == {"\\ud800": ["is given twice"]}
    assert stored(rows) == []


async def test_another_content_type_is_415(api: Api, rows: Rows) -> None:
    """Also JSON in another encoding, and a compressed body, which is never inflated."""
    for headers in (
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "nonsense"},
        {"Content-Type": ""},
        {"Content-Encoding": "gzip"},
        {"Content-Encoding": "br"},
    ):
        sent = {"Content-Type": "application/json"} | headers
        body = b'{"key":"cpu","value":1}'
        answer = await api.ask("POST", "/api/Ratios", data=body, headers=sent)
        assert answer.status == 415, headers
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert stored(rows) == []


async def test_json_by_any_of_its_names_is_taken(api: Api) -> None:
    """With a byte order mark, too."""
    body = b"\xef\xbb\xbf" + json.dumps({"key": "cpu", "value": 1}).encode()
    for kind in (
        "application/json; charset=UTF-8",
        "APPLICATION/JSON",
        "application/merge-patch+json",
    ):
        answer = await api.ask("POST", "/api/Ratios", data=body, headers={"Content-Type": kind})
        assert answer.status == 200, kind


def is_too_large(answer: Answer) -> bool:
    return answer.status == 413 and answer.json()["title"] == "Request Entity Too Large"


async def test_a_body_of_ten_megabytes_is_413(api: Api, rows: Rows) -> None:
    """Whether its length is announced or not; the limit itself is taken."""
    sent = {"Content-Type": "application/json"}
    huge = b" " * 10_000_000
    assert is_too_large(await api.ask("POST", "/api/Ratios", data=BytesIO(huge), headers=sent))

    async def chunks() -> AsyncGenerator[bytes]:
        for _ in range(10):
            yield huge[:1_000_000]

    url = f"http://127.0.0.1:{api.port}/api/Ratios"
    async with api.session.post(url, data=chunks(), headers=sent) as response:
        assert response.status == 413
    body = b'{"key":"cpu","value":1}'.ljust(SMALL_BODY)
    assert (await api.ask("POST", "/api/Ratios", data=body, headers=sent)).status == 200
    assert stored(rows) == [("cpu", "1")]


async def test_who_set_a_price_is_kept(api: Api, rows: Rows) -> None:
    """Without a token: the role and where it came from."""
    await api.post("/api/Ratios", {"key": "cpu", "value": 1})
    found = rows.connection.execute("SELECT created_by FROM ratio").fetchone()
    assert found == ("admin@127.0.0.1",)
