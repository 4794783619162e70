"""Which NODEMETER_* variables may stand in the agent's environment; the others are mistakes.

Beside the agent's own there may be those of the aggregator, which checks them itself, some
that belong to no section, and what Kubernetes makes of a service called nodemeter.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from agent.config import CONFIG_VARIABLE, PREFIX, STATE_DIR_VARIABLE

AGGREGATOR_SECTIONS = (
    *("database", "http", "grpc", "tls", "billing", "retention", "ingest", "rater", "pods", "log"),
)
OUTSIDE_SECTIONS = (
    CONFIG_VARIABLE,
    STATE_DIR_VARIABLE,
    "NODEMETER_AGGREGATOR_CONFIG",
    "NODEMETER_URL",
    "NODEMETER_CA_FILE",
    "NODEMETER_TOKEN",
    "NODEMETER_JOB_ID",
)
"""What else our commands read, and what `exec` tells its job."""

_SERVICE_LINK = re.compile(
    r"\w+_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_ADDRESSES = ("tcp://", "udp://", "sctp://")


def unknown_variables(
    environ: Mapping[str, str], own: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Say which variables nobody reads, each with its nearest known one.

    `own` are the keys of each section of ours.
    """
    foreign = [section for section in AGGREGATOR_SECTIONS if section not in own]
    names = {section: [_name(section, key) for key in own[section]] for section in own}
    known = {*OUTSIDE_SECTIONS, *(name for section in own for name in names[section])}
    for name, value in sorted(environ.items()):
        if not name.startswith(PREFIX) or name in known or _is_service_link(name, value):
            continue
        if any(name.startswith(_name(section, "")) for section in foreign):
            continue
        section = next((each for each in own if name.startswith(_name(each, ""))), None)
        if section is None:
            key = name.removeprefix(PREFIX).partition("_")[2]
            guess = _guess(name, [*known, *(_name(each, key) for each in foreign if key)])
            yield f"{name}: unknown variable{guess} sections are {', '.join([*own, *foreign])}"
        else:
            guess = _guess(name, names[section])
            yield f"{name}: unknown variable{guess} known are {', '.join(names[section])}"


def _name(section: str, key: str) -> str:
    return f"{PREFIX}{section}_{key}".upper()


def _is_service_link(name: str, value: str) -> bool:
    """Whether it is there because a pod runs beside a service whose name begins like ours."""
    has_address = name.endswith("_PORT") and value.startswith(_ADDRESSES)
    return has_address or _SERVICE_LINK.fullmatch(name) is not None


def _guess(wrong: str, known: Iterable[str]) -> str:
    """Name the nearest; what all have in common makes none near."""
    names = {name.removeprefix(PREFIX): name for name in sorted(known)}
    near = difflib.get_close_matches(wrong.removeprefix(PREFIX), names, n=1)
    return f"; did you mean {names[near[0]]}?" if near else ";"
