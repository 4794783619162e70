"""The table of routes: what a path with variable parts answers to."""

from http import HTTPStatus

import pytest
from aiohttp import web
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
    )
    resource = web.UrlDispatcher().add_resource(route.pattern)
    return resource._match(URL(asked, encoded=True).path_safe)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("/v1/teams/a/usage/17", {"teamId": "a", "timestamp": "17"}),
        ("/v1/teams/a%2Fb/usage/17", {"teamId": "a/b", "timestamp": "17"}),
        ("/v1/teams/a/b/usage/17", None),
        ("/v1/teams/a/usage/1/7", {"teamId": "a", "timestamp": "1/7"}),
        ("/v1/teams//usage/17", None),
        ("/v1/teams/a/usage/", None),
    ],
)
def test_several_parts_of_a_path_are_variable(asked: str, found: dict[str, str] | None) -> None:
    """One within it holds no slash but an encoded one; the last holds whatever comes."""
    assert match("/v1/teams/{teamId}/usage/{timestamp}", asked) == found
