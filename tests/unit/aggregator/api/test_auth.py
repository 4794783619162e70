"""Claims about who a request is from, for origins that a test on loopback cannot have."""

from ipaddress import ip_network

import pytest
from aiohttp.test_utils import make_mocked_request

from aggregator.api.auth import Role, caller_without_token
from aggregator.api.problem import Problem
from aggregator.settings import HttpSettings

OPEN = HttpSettings(
    open_to=(ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
    open_role="viewer",
)


@pytest.mark.parametrize(
    ("remote", "name"),
    [
        ("127.0.0.1", "viewer@127.0.0.1"),
        ("127.5.5.5", "viewer@127.5.5.5"),
        ("::ffff:10.1.2.3", "viewer@10.1.2.3"),
        ("fd00::7", "viewer@fd00::7"),
    ],
)
def test_a_caller_from_an_open_network_has_its_role(remote: str, name: str) -> None:
    """An IPv4 address is the same when it comes mapped into IPv6."""
    request = make_mocked_request("GET", "/").clone(remote=remote)
    caller = caller_without_token(request, OPEN)
    assert (caller.name, caller.role) == (name, Role.VIEWER)


@pytest.mark.parametrize(
    "remote", ["11.0.0.1", "::1", "::ffff:11.0.0.1", "fe80::1%eth0", "", "nonsense"]
)
def test_a_caller_from_anywhere_else_is_nobody(remote: str) -> None:
    """Also one whose address is unknown."""
    request = make_mocked_request("GET", "/").clone(remote=remote)
    with pytest.raises(Problem, match="may not ask without a token"):
        caller_without_token(request, OPEN)


@pytest.mark.parametrize("host", ["billing.example", "10.0.0.9:80"])
def test_off_the_machine_any_name_is_ours(host: str) -> None:
    """Only loopback is guarded by the name asked for."""
    request = make_mocked_request("GET", "/", headers={"Host": host}).clone(remote="10.0.0.5")
    assert caller_without_token(request, OPEN).role is Role.VIEWER


def test_a_request_without_a_name_is_taken_at_its_address() -> None:
    """HTTP/1.0 has no Host."""
    request = make_mocked_request("GET", "/").clone(remote="127.0.0.1")
    assert "Host" not in request.headers
    assert caller_without_token(request, OPEN).name == "viewer@127.0.0.1"
