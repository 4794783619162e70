"""How an API says what every API says: its errors, its limits, each in its original's form.

A dialect answers below its prefixes; the longest that fits decides. Whatever answers to no
dialect's path speaks the native one, in problems.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from aiohttp import web
from pydantic import TypeAdapter

from aggregator.api.limits import Allowance
from aggregator.api.problem import MEDIA_TYPE, PROBLEM_DETAILS, Problem, render

Render: TypeAlias = Callable[[Problem, str], web.Response]
LimitHeaders: TypeAlias = Callable[[Allowance], Mapping[str, str]]


def _no_headers(_allowance: Allowance) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The form of one API.

    `render` shows a problem and the request's id; what it makes has the problem's status and
    headers, and is what `error` describes. `limit_headers` tell on every answer what the
    caller may still ask for.
    """

    name: str
    prefixes: tuple[str, ...]
    """Paths without a slash at the end, in lower case."""
    render: Render
    error: TypeAdapter[Any]
    error_media_type: str = "application/json"
    limit_headers: LimitHeaders = _no_headers


NATIVE: Final = Dialect(
    name="native",
    prefixes=("/api",),
    render=render,
    error=PROBLEM_DETAILS,
    error_media_type=MEDIA_TYPE,
)
"""That of the Bill API and of everything that is ours alone: RFC 9457."""


class Dialects:
    """All dialects, by path."""

    def __init__(self, dialects: Sequence[Dialect]) -> None:
        """Know them; the native one need not be named. ValueError: two have one prefix."""
        named = [(prefix, each) for each in (NATIVE, *dialects) for prefix in each.prefixes]
        self._of_prefix = dict(named)
        if len(self._of_prefix) < len(named):
            raise ValueError("two dialects have one prefix")

    def of(self, path: str) -> Dialect:
        """The dialect that answers at a path, whatever its case."""
        rest = path.lower().rstrip("/")
        while rest:
            if rest in self._of_prefix:
                return self._of_prefix[rest]
            rest = rest.rpartition("/")[0]
        return NATIVE
