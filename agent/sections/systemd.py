"""[systemd]: which units are jobs, and what a unit's name says of its job."""

from dataclasses import dataclass
from string import Formatter

from agent.config import Reader

UNIT_SUFFIXES = (".service", ".scope", ".slice")
_FIELDS = ("unit", "name", "instance", "slice", "user", "uid", *map(str, range(1, 10)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemdSettings:
    """Patterns of units, and templates of what is billed; see `ask_systemd`."""

    units: tuple[str, ...]
    job_id: str
    job_name: str
    user: str
    vc: str
    project: str


def ask_systemd(reader: Reader) -> SystemdSettings:
    """Take [systemd].

    `units` are names in which `*` stands for any text and `?` for one character, such as
    `job-*.service`; slices may stand before them, `jobs.slice/job-*.scope`. Without any,
    no unit is a job.

    The others are templates: {unit} is the unit's name, {name} the same without its suffix,
    {instance} what stands behind the @, {slice} the slice it is in without its suffix, {user}
    the account whose user-UID.slice it is in and {uid} its number, {1} to {9} what each `*`
    of the pattern stood for (as little as possible). What is not there is empty.
    """
    return SystemdSettings(
        units=reader.texts("systemd", "units", (), _check_pattern),
        job_id=reader.text("systemd", "job_id", "{unit}", _check_template),
        job_name=reader.text("systemd", "job_name", "{name}", _check_template),
        user=reader.text("systemd", "user", "{user}", _check_template),
        vc=reader.text("systemd", "vc", "default", _check_template),
        project=reader.text("systemd", "project", "", _check_template),
    )


def _check_pattern(value: str) -> str | None:
    """A bare `*` would also be the agent itself."""
    parts = value.split("/")
    if {"", ".", ".."}.isdisjoint(parts) and parts[-1].endswith(UNIT_SUFFIXES):
        return None
    return (
        "must be a unit such as job-*.service, with slices before it where need be, such as "
        "jobs.slice/job-*.scope"
    )


def _check_template(value: str) -> str | None:
    known = ", ".join(f"{{{name}}}" for name in _FIELDS[:6])
    rule = f"must be a text in which {known} and {{1}} to {{9}} are replaced"
    try:
        parts = list(Formatter().parse(value))
    except ValueError:
        return rule
    is_plain = all(
        field is None or (field in _FIELDS and not form and not conversion)
        for _, field, form, conversion in parts
    )
    return None if is_plain else rule
