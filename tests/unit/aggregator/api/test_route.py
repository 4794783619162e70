"""The table of routes: what a path with variable parts answers to."""

from http import HTTPStatus

import pytest
from aiohttp import web
from pydantic import TypeAdapter
from yarl import URL

from aggregator.api.auth import Role
from aggregator.api.route import Answer, Route


async def handler(_request: web.Request) -> web.StreamResponse:
    """Never called."""
    raise NotImplementedError


def match(path: str, asked: str) -> dict[str, str] | None:
    """What a route with that path takes of a raw path; None: it does not answer."""
    route = Route(
        method="GET",
        path=path,
        handler=handler,
        operation_id="op",
        tag="t",
        summary="s",
        role=Role.ADMIN,
        answers={HTTPStatus.OK: Answer(description="d")},
        path_types={"timestamp": TypeAdapter(str)},
    )
    resource = web.UrlDispatcher().add_resource(route.pattern)
    return resource._match(URL(asked, encoded=True).path_safe)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("/v1/teams/a/usage/17", {"teamId": "a", "timestamp": "17"}),
        ("/v1/teams/a%2Fb/usage/17", {"teamId": "a/b", "timestamp": "17"}),
        ("/v1/teams/a/b/usage/17", None),
        ("/v1/teams/a/usage/1/7", None),
        ("/v1/teams/a/usage/1%2F7", {"teamId": "a", "timestamp": "1/7"}),
        ("/v1/teams//usage/17", None),
        ("/v1/teams/a/usage/", None),
    ],
)
def test_several_parts_of_a_path_are_variable(asked: str, found: dict[str, str] | None) -> None:
    """They hold no slash but an encoded one."""
    assert match("/v1/teams/{teamId}/usage/{timestamp}", asked) == found


def test_any_text_at_the_end_holds_whatever_comes() -> None:
    """A proxy may have decoded its slashes."""
    assert match("/ratios/{key}", "/ratios/a/b%2Fc") == {"key": "a/b/c"}
    assert match("/ratios/{key}", "/ratios/") is None
