"""The command `nodemeter-agent enroll`: this node's first certificate, or another one."""

import argparse
import re
import sys

from agent.enroll.ask import NotConnectedError, enroll
from agent.enroll.diagnose import NO_CERTIFICATE, HungUpError, context_of, diagnose
from agent.enroll.discover import find_authority
from agent.enroll.files import write_enrolment
from agent.enroll.request import life_of, make_request
from agent.enrolled import Enrolled
from agent.errors import AgentError
from agent.settings import AgentSettings
from agent.uplink.target import host_of, is_loopback, port_of
from proto.enrolment.v1 import enrolment_pb2 as pb

_TOKEN = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{64})")
_PLACE = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})")
_PORT = 50_052
_AGENTS_PORT = (
    "asks for the certificate that enrolling gives: it is where agents send usage. Enrol at the "
    "port that `nodemeter-aggregator ca issue` prints ([grpc] enroll_port there, "
    f"{_PORT} unless set)"
)


def run_enroll(settings: AgentSettings, options: argparse.Namespace) -> None:
    """Enrol, and say until when.

    Raises:
        AgentError: it was refused, or somebody else answers; nothing was changed.
    """
    said: str = options.token
    match = _TOKEN.fullmatch(sys.stdin.readline().strip() if said == "-" else said)
    if match is None:
        raise AgentError("--token: must be two hexadecimal numbers with a dot, as it was printed")
    place = _place(options.aggregator, settings.uplink.target)
    host, port = host_of(place), port_of(place)
    authority = find_authority(host, port, match[2])
    key, request = make_request(settings.node.name)
    asked = pb.EnrollRequest(secret=match[1], node=settings.node.name, request=request)
    certified = _ask(place, authority, asked)
    target = f"{place.rpartition(':')[0]}:{certified.port}"
    enrolled = Enrolled(settings.agent.state_dir)
    write_enrolment(enrolled, key + certified.certificate, certified.authorities, target)
    until = life_of(certified.certificate).not_after
    sys.stdout.write(
        f"this node is enrolled as {settings.node.name}, until {until:%Y-%m-%dT%H:%M:%SZ} and as "
        f"long as its agent runs: that renews it. Usage goes to {target}.\n"
    )
    if settings.uplink.target != target and not is_loopback(settings.uplink.target):
        sys.stderr.write(f"nodemeter-agent: but [uplink] target is {settings.uplink.target}\n")


def _place(said: str | None, target: str) -> str:
    if said is None and is_loopback(target):
        raise AgentError("--aggregator: must say where the aggregator is, such as meter:50052")
    place = said or f"{_bracketed(host_of(target))}:{_PORT}"
    match = _PLACE.fullmatch(place)
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise AgentError(f"--aggregator: must be host:port, such as meter:50052, not {place!r}")
    return place


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _ask(place: str, authority: bytes, request: pb.EnrollRequest) -> pb.Certified:
    try:
        return enroll(place, authority, request)
    except NotConnectedError as error:
        if reason := _reason(place, authority):
            raise AgentError(f"{reason}; nothing was sent") from error
        raise


def _reason(place: str, authority: bytes) -> str | None:
    host, context = host_of(place), context_of(authority.decode(), "", "")
    try:
        reason = diagnose(host, port_of(place), context, host)
    except HungUpError:
        reason = NO_CERTIFICATE
    return f"{place} {_AGENTS_PORT}" if reason == NO_CERTIFICATE else reason
