"""Claims about limits as clients meet them."""

from aggregator.settings import HttpSettings
from aggregator.store.pool import Pool
from tests.integration.aggregator.api.client import Api, served
from tests.integration.aggregator.rows import Rows

TOKENS = "/api/admin/v1/tokens"


async def token(api: Api, name: str) -> dict[str, str]:
    """The header of a new token."""
    secret = (await api.post(TOKENS, {"name": name})).json()["token"]
    return {"Authorization": f"Bearer {secret}"}


async def test_each_token_has_its_own_limit(pool: Pool, api: Api, rows: Rows) -> None:
    """429 as a problem, with the time to come back; another token goes on."""
    one, other = await token(api, "one"), await token(api, "other")
    async with served(pool, HttpSettings(requests_per_minute=3)) as limited:
        answers = [await limited.ask("GET", "/api/Ratios", headers=one) for _ in range(4)]
        assert [each.status for each in answers] == [200, 200, 200, 429]
        last = answers[-1]
        assert last.headers["Content-Type"] == "application/problem+json"
        assert 1 <= int(last.headers["Retry-After"]) <= 20
        assert last.json()["detail"].startswith("at most 3 requests a minute")
        assert last.json()["requestId"] == last.headers["X-Request-Id"]
        assert (await limited.ask("GET", "/api/Ratios", headers=other)).status == 200
        assert (await limited.get("/api/Ratios")).status == 200


async def test_guessing_tokens_ends_in_429_before_anything_is_looked_up(
    pool: Pool, api: Api
) -> None:
    """Whoever has a token that was seen goes on, from the same address."""
    known = await token(api, "known")
    async with served(pool, HttpSettings(anonymous_per_minute=5)) as limited:
        assert (await limited.ask("GET", "/api/Ratios", headers=known)).status == 200
        wrong = {"Authorization": "Bearer nodemeter_" + "x" * 43}
        statuses = [
            (await limited.ask("GET", "/api/Ratios", headers=wrong)).status for _ in range(8)
        ]
        assert statuses == [401] * 5 + [429] * 3
        assert (await limited.get("/docs")).status == 429
        assert (await limited.get("/healthz")).status == 200
        assert (await limited.ask("GET", "/api/Ratios", headers=known)).status == 200


async def test_strangers_are_counted_too(pool: Pool) -> None:
    """Those whose network may not ask, and those who ask for what is open to everybody."""
    async with served(pool, HttpSettings(open_to=(), anonymous_per_minute=3)) as limited:
        statuses = [
            (await limited.get(path)).status for path in ("/api/Bills", "/nowhere", "/docs")
        ]
        assert statuses == [401, 401, 200]
        assert (await limited.get("/api/Bills")).status == 429
        assert (await limited.get("/readyz")).status == 200
