"""Claims about the words of Kubernetes in which the Cost API says what is wrong."""

import json
from http import HTTPStatus

import pytest

from aggregator.api.cost.dialect import COST
from aggregator.api.problem import Problem


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "BadRequest"),
        (401, "Unauthorized"),
        (403, "Forbidden"),
        (404, "NotFound"),
        (405, "MethodNotAllowed"),
        (413, "RequestEntityTooLarge"),
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (503, "ServiceUnavailable"),
        (410, "BadRequest"),
        (502, "InternalError"),
    ],
)
def test_each_status_has_its_word(status: int, reason: str) -> None:
    """One without a word of its own has that of its class; headers are passed on."""
    problem = Problem(HTTPStatus(status), 'it "is" so', headers={"Retry-After": "5"})
    answer = COST.render(problem, "id")
    assert (answer.status, answer.content_type) == (status, "application/json")
    assert answer.headers["Retry-After"] == "5"
    assert isinstance(answer.body, bytes)
    assert json.loads(answer.body) == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'it "is" so',
        "reason": reason,
        "code": status,
    }
