"""Claims about tokens: what they are, who has one, and what ends them."""

import asyncio
import hashlib
import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from aggregator.api.tokenbook import VALID_SECONDS
from aggregator.billing.database import Database
from aggregator.billing.tokens import digest_of, use_token
from aggregator.clock import monotonic, utc_now
from aggregator.settings import HttpSettings
from aggregator.store.pool import Pool
from tests.integration.aggregator.api.client import Answer, Api, served
from tests.integration.aggregator.api.waiting import until_waiting
from tests.integration.aggregator.rows import Rows

TOKENS = "/api/admin/v1/tokens"


async def made(api: Api, name: str = "ops", **fields: object) -> dict[str, Any]:
    """A token just made."""
    answer = await api.post(TOKENS, {"name": name} | fields)
    assert answer.status == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def asked(api: Api, secret: str, path: str = "/api/Bills", method: str = "GET") -> Answer:
    """A request with a token."""
    return await api.ask(method, path, headers={"Authorization": f"Bearer {secret}"})


async def test_a_token_is_256_random_bits_of_which_only_a_digest_is_kept(
    api: Api, rows: Rows
) -> None:
    """Behind a prefix that scanners for secrets know; shown in one answer only."""
    one, other = [await made(api, name) for name in "ab"]
    assert one["token"] != other["token"]
    assert re.fullmatch(r"nodemeter_[\w-]{43}", one["token"])
    stored = rows.connection.execute("SELECT digest FROM token WHERE name = 'a'").fetchone()
    assert stored == (hashlib.sha256(one["token"].encode()).digest(),)
    kept = rows.connection.execute("SELECT token::text, audit::text FROM token, audit").fetchall()
    assert one["token"][10:] not in str(kept)
    listed = await api.get(TOKENS)
    assert one["token"] not in listed.text
    assert [each["name"] for each in listed.json()] == ["a", "b"]
    assert "token" not in listed.json()[0]


async def test_a_token_lets_in_from_where_nobody_may_ask_without(pool: Pool, api: Api) -> None:
    """Also through a proxy."""
    secret = (await made(api))["token"]
    async with served(pool, HttpSettings(open_to=())) as closed:
        assert (await closed.get("/api/Bills")).status == 401
        assert (await asked(closed, secret)).status == 200
        proxied = {"Authorization": f"bearer {secret}", "X-Forwarded-For": "10.0.0.1"}
        assert (await closed.ask("GET", "/api/Bills", headers=proxied)).status == 200


async def test_a_token_that_is_sent_must_be_valid(api: Api) -> None:
    """Whatever else might let the request in; nothing of it is repeated."""
    secret = (await made(api))["token"]
    for value in (
        f"Bearer {secret}x",
        f"Bearer {secret[:-1]}",
        f"Bearer {secret.lower()}",
        f"Basic {secret}",
        secret,
        f"Bearer nodemeter_{'A' * 43}",
        "Bearer ' OR 1=1 --",
        "Bearer " + "A" * 4000,
        "Bearer \u00e9",
        "",
    ):
        answer = await api.ask("GET", "/api/Bills", headers={"Authorization": value})
        assert answer.status == 401, value
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert value == "" or value not in answer.text


async def test_a_token_may_do_what_its_role_says(api: Api) -> None:
    """A viewer changes nothing, and makes no tokens."""
    admin = (await made(api, "a", role="admin"))["token"]
    viewer = (await made(api, "v"))["token"]
    assert (await asked(api, viewer)).status == 200
    for method, path in (("DELETE", "/api/Ratios/x"), ("GET", TOKENS), ("POST", TOKENS)):
        refused = await asked(api, viewer, path, method)
        assert (refused.status, refused.json()["title"]) == (403, "Forbidden"), path
    assert (await asked(api, admin, "/api/Ratios/x", "DELETE")).status == 404


async def test_who_did_it_is_the_tokens_name(api: Api, rows: Rows) -> None:
    """In the history of prices, and of tokens."""
    secret = (await made(api, "alice", role="admin"))["token"]
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    body = b'{"key":"cpu","value":1}'
    await api.ask("POST", "/api/Ratios", headers=headers, data=body)
    assert rows.connection.execute("SELECT created_by FROM ratio").fetchall() == [("token alice",)]


async def test_making_and_ending_a_token_is_audited(api: Api, rows: Rows) -> None:
    """Who, what, from when to when, and why."""
    await made(api, "grafana", vcName="vc1", reason="dashboards")
    await api.delete(f"{TOKENS}?name=grafana&reason=moved")
    found = rows.connection.execute(
        "SELECT actor, subject, key, action, old_value, new_value, reason,"
        " effective_until IS NULL FROM audit ORDER BY audit_id"
    ).fetchall()
    who = "admin@127.0.0.1"
    assert found == [
        (who, "token", "grafana", "add", None, "viewer vc vc1", "dashboards", False),
        (who, "token", "grafana", "delete", "viewer vc vc1", None, "moved", True),
    ]


async def test_a_revoked_token_is_refused_at_once_and_its_name_is_free(api: Api) -> None:
    """Here at once; elsewhere when what is remembered is a second old."""
    secret = (await made(api))["token"]
    assert (await asked(api, secret)).status == 200
    gone = await api.delete(f"{TOKENS}?name=ops")
    assert (gone.status, gone.json()["state"], gone.json()["revokedBy"]) == (
        200,
        "revoked",
        "admin@127.0.0.1",
    )
    assert (await asked(api, secret)).status == 401
    assert (await api.delete(f"{TOKENS}?name=ops")).status == 404
    await made(api)
    assert (await asked(api, secret)).status == 401


async def test_another_process_hears_of_it_within_a_second_or_so(
    pool: Pool, api: Api, rows: Rows
) -> None:
    """What it remembers of a token is forgotten by then."""
    secret = (await made(api))["token"]
    async with served(pool) as other:
        assert (await asked(other, secret)).status == 200
        await api.delete(f"{TOKENS}?name=ops")
        until = monotonic() + 30 * VALID_SECONDS
        while (await asked(other, secret)).status == 200:
            assert monotonic() < until
            await asyncio.sleep(VALID_SECONDS / 20)


async def test_an_expired_token_is_refused_and_shown_so(api: Api, rows: Rows) -> None:
    """By the database's clock."""
    secret = (await made(api))["token"]
    rows.connection.execute("UPDATE token SET expires_at = now() - interval '1 second'")
    assert (await asked(api, secret)).status == 401
    assert [each["state"] for each in (await api.get(TOKENS)).json()] == ["expired"]


async def test_a_token_ends_in_ninety_days_unless_it_is_said(api: Api, rows: Rows) -> None:
    """Or whenever its maker wants, with any offset."""
    await made(api, "default")
    await made(api, "said", expiresAt="2027-01-01T02:00:00+02:00")
    found = rows.connection.execute(
        "SELECT expires_at - created_at FROM token WHERE name = 'default'"
    ).fetchone()
    assert found == (timedelta(days=90),)
    said = (await api.get(TOKENS)).json()[1]
    assert said["expiresAt"] == "2027-01-01T00:00:00Z"


async def test_a_name_is_one_tokens_at_a_time(api: Api, rows: Rows) -> None:
    """409, and nothing is made."""
    await made(api)
    answer = await api.post(TOKENS, {"name": "ops", "role": "admin"})
    assert (answer.status, list(answer.json()["errors"])) == (409, ["name"])
    assert rows.connection.execute("SELECT role FROM token").fetchall() == [("viewer",)]


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a" * 513}, "name"),
        ({"name": "a", "role": "root"}, "role"),
        ({"name": "a", "role": "admin", "vcName": "v"}, "vcName"),
        ({"name": "a", "vcName": "v", "project": "p"}, "project"),
        ({"name": "a", "userId": "alice"}, "userId"),
        ({"name": "a", "vcName": ""}, "vcName"),
        ({"name": "a", "expiresAt": "tomorrow"}, "expiresAt"),
        ({"name": "a", "expiresAt": "2026-01-01T00:00:00"}, "expiresAt"),
        ({"name": "a", "expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
        ({"name": "a", "expiresAt": "9999-01-01T00:00:00Z"}, "expiresAt"),
        ({"name": "a", "secret": "mine"}, "secret"),
    ],
)
async def test_what_cannot_be_a_token_is_refused_by_its_field(
    api: Api, rows: Rows, fields: dict[str, str], at_fault: str
) -> None:
    """400 as a problem; 409 where it does not go with the rest, or with the time."""
    answer = await api.post(TOKENS, fields)
    assert answer.status in {400, 409}
    assert list(answer.json()["errors"]) == [at_fault], answer.text
    assert rows.connection.execute("SELECT count(*) FROM token").fetchone() == (0,)


async def test_use_is_noted_once_a_minute(api: Api, rows: Rows, pool: Pool) -> None:
    """Not by a write for each request."""
    secret = (await made(api))["token"]
    assert (await api.get(TOKENS)).json()[0]["lastUsedAt"] is None
    for _ in range(3):
        await asked(api, secret)
    first = rows.connection.execute("SELECT last_used_at, xmin::text FROM token").fetchone()
    assert first is not None
    assert abs(first[0] - utc_now()) < timedelta(minutes=5)
    digest = digest_of(secret)
    assert digest is not None
    assert await use_token(Database(pool), digest) is not None
    assert rows.connection.execute("SELECT last_used_at, xmin::text FROM token").fetchone() == first


async def test_many_requests_with_one_token_ask_the_database_once(api: Api, rows: Rows) -> None:
    """Also when they come at the same time."""
    secret = (await made(api))["token"]
    rows.connection.execute("BEGIN")
    rows.connection.execute("LOCK TABLE token")
    tasks = [asyncio.create_task(asked(api, secret, "/nowhere")) for _ in range(20)]
    await until_waiting(rows, 1)
    rows.connection.execute("ROLLBACK")
    assert {(await task).status for task in tasks} == {404}


async def test_a_database_that_is_away_is_no_reason_to_refuse_a_token(
    api: Api, pool: Pool, rows: Rows
) -> None:
    """503: it could not be looked up."""
    secret = (await made(api))["token"]
    await pool.close()
    answer = await asked(api, secret, f"/api/Bills?userId={uuid4()}")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
