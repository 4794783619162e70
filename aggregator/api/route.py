"""One operation of an API: where it answers, who may call it, and what the document says.

The table of routes is the only list of operations: the server and the OpenAPI document
are both made from it.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeAlias

from aiohttp import web
from pydantic import TypeAdapter

from aggregator.api.auth import Caller, Role
from aggregator.billing.database import Database
from aggregator.metrics import Metrics

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Adapter: TypeAlias = TypeAdapter[Any]

DATABASE = web.AppKey("DATABASE", Database)
METRICS = web.AppKey("METRICS", Metrics)
USAGE_DAYS = web.AppKey("USAGE_DAYS", int)
BASE_CURRENCY = web.AppKey("BASE_CURRENCY", str)
PODS_LIVE = web.AppKey("PODS_LIVE", bool)

CALLER = web.RequestKey("CALLER", Caller)
REQUEST_ID = web.RequestKey("REQUEST_ID", str)

_VARIABLE = re.compile(r"\{([a-zA-Z]+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A documented answer that is no problem."""

    description: str
    adapter: Adapter | None = None
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Name and description of each."""
    example: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """An operation. `path` is as documented, with `{name}` for a variable part.

    `problems` are those of its own: what every query and every body may meet is not named.
    `role` has no default: each route says what it needs. SCOPED: it shows what is within the
    caller's scope, and nothing else; None: it is open to everybody. `ignores_case`: as the
    original of a dialect did, also a slash at the end is ignored.
    """

    method: str
    path: str
    handler: Handler
    operation_id: str
    tag: str
    summary: str
    role: Role | None
    answers: Mapping[HTTPStatus, Answer]
    description: str = ""
    query: Adapter | None = None
    body: Adapter | None = None
    problems: tuple[HTTPStatus, ...] = ()
    path_parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    path_types: Mapping[str, Adapter] = field(default_factory=dict[str, Adapter])
    """What a variable part must be; any text if it is not said. One that is said has no slash."""
    ignores_case: bool = False
    is_documented: bool = True
    timeout_seconds: float = 30.0
    is_limited: bool = True
    """Whether requests are counted; supervisors' are not."""

    @property
    def pattern(self) -> str:
        """The path as the router takes it; a variable part may hold encoded slashes.

        One at the end may hold slashes as they are. Where case is ignored only one at the end
        can be.
        """
        if not self.ignores_case:
            return _VARIABLE.sub(self._as_pattern, self.path)
        head, brace, _ = self.path.partition("{")
        variable = _VARIABLE.sub(self._as_pattern, self.path[len(head) :])
        fixed = re.escape(head.strip("/"))
        end = "/" if brace else "/?"
        return f"/{{fixed_part:(?i:{fixed}){end}}}{variable}"

    def _as_pattern(self, variable: re.Match[str]) -> str:
        is_last = variable.end() == len(variable.string)
        is_any = is_last and variable[1] not in self.path_types
        allowed = r"[\s\S]+" if is_any else "[^/]+"
        return f"{{{variable[1]}:{allowed}}}"
