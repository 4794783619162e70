"""Who is let in, and how often: a token or an open network, each within its limit.

Requests that are refused are counted by where they come from, and beyond a limit refused
before anything is looked up: guessing tokens costs the database nothing.
"""

from http import HTTPStatus

from aiohttp import web

from aggregator.api.auth import (
    Caller,
    caller_of_token,
    caller_without_token,
    origin,
    sent_token,
    unauthorized,
)
from aggregator.api.limits import Allowance, RateLimit
from aggregator.api.problem import Problem
from aggregator.api.tokenbook import TokenBook
from aggregator.billing.tokens import digest_of
from aggregator.settings import HttpSettings

ALLOWANCE = web.RequestKey("ALLOWANCE", Allowance)
"""What who asks, or a stranger from there, may still ask for."""


class Door:
    """Knows tokens, networks and limits."""

    def __init__(self, settings: HttpSettings, tokens: TokenBook) -> None:
        """Nobody has asked for anything yet."""
        self._settings = settings
        self._tokens = tokens
        self._of_callers = RateLimit(settings.requests_per_minute)
        self._of_strangers = RateLimit(settings.anonymous_per_minute)

    async def caller(self, request: web.Request) -> Caller:
        """Who asks; a Problem 401, or 429 for who was refused too often."""
        secret = sent_token(request)
        if secret is None:
            return self._open_caller(request)
        digest = digest_of(secret)
        if digest is None or not self._tokens.knows(digest):
            allowance = request[ALLOWANCE] = self._of_strangers.look(origin(request))
            check(allowance)
        bearer = await self._tokens.bearer(digest) if digest else None
        if bearer is None:
            request[ALLOWANCE] = self._of_strangers.take(origin(request))
            raise unauthorized("the token is not valid: unknown, expired or revoked")
        return caller_of_token(bearer)

    def count(self, request: web.Request, caller: Caller) -> None:
        """Count a request of somebody who was let in; a Problem 429 for one too many."""
        allowance = request[ALLOWANCE] = self._of_callers.take(caller.key)
        check(allowance)

    def count_stranger(self, request: web.Request) -> None:
        """Count a request for what is open to everybody, or a refused one; the same."""
        allowance = request[ALLOWANCE] = self._of_strangers.take(origin(request))
        check(allowance)

    def _open_caller(self, request: web.Request) -> Caller:
        try:
            return caller_without_token(request, self._settings)
        except Problem:
            self.count_stranger(request)
            raise


def check(allowance: Allowance) -> None:
    """Raise a Problem 429 that says when to come back, unless it is allowed."""
    if not allowance.is_allowed:
        seconds = allowance.retry_seconds
        raise Problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"at most {allowance.limit} requests a minute: try again in {seconds} s",
            headers={"Retry-After": str(seconds)},
        )
