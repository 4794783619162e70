"""Patterns of units and what their names say: systemd's own rules, nothing guessed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import Reader
from agent.jobs.systemd.units import UnitPattern, fields_of, fill, unescape
from agent.sections.systemd import SystemdSettings, ask_systemd

if TYPE_CHECKING:
    from agent.config import Toml


def name_of(uid: int) -> str:
    return {1000: "alice"}.get(uid, str(uid))


def asked(**values: Toml) -> tuple[SystemdSettings, list[str]]:
    reader = Reader({"systemd": values}, {})
    return ask_systemd(reader), list(reader.problems())


@pytest.mark.parametrize(
    ("pattern", "path", "stars"),
    [
        ("job-*.service", "system.slice/job-7.service", ["7"]),
        ("job-*.service", "job-7.service", ["7"]),
        ("job-*.service", "a.slice/a-b.slice/a-b-c.slice/a-b-c-d.slice/job-7.service", ["7"]),
        ("jobs.slice/job-*-*.scope", "jobs.slice/job-a-b-c.scope", ["a", "b-c"]),
        ("jobs-*.slice/*.scope", "jobs.slice/jobs-gpu.slice/x.scope", ["gpu", "x"]),
        ("user-*.slice", "user.slice/user-1000.slice", ["1000"]),
        ("job-?.scope", "job-7.scope", []),
        ("job-*.scope", "job-7.service", None),
        ("job-*.scope", "job-7.scopes", None),
        ("jobs.slice/job-*.scope", "other.slice/job-7.scope", None),
        ("jobs.slice/job-*.scope", "job-7.scope", None),
        ("job[1].scope", "job1.scope", None),
    ],
)
def test_a_pattern_is_the_end_of_the_path(pattern: str, path: str, stars: list[str] | None) -> None:
    """Any slices may stand before it; brackets and dots mean themselves."""
    assert UnitPattern(pattern).match(path.split("/")) == stars


def test_every_place_of_a_pattern_is_followed() -> None:
    """What matches is found, at every depth; what is no slice is not entered."""
    places = UnitPattern("jobs.slice/job-*.scope").places()
    for path, is_found in [
        ("jobs.slice/job-1.scope", True),
        ("a.slice/b.slice/c.slice/d.slice/jobs.slice/job-1.scope", True),
        ("a.service/jobs.slice/job-1.scope", False),
    ]:
        names = path.split("/")
        fits = [
            len(place) == len(names)
            and all(part.fullmatch(name) for part, name in zip(place, names, strict=True))
            for place in places
        ]
        assert any(fits) is is_found, path


def test_fields_are_decoded() -> None:
    r"""`\x2d` is a minus; the account is the one whose slice it is."""
    names = ["user.slice", "user-1000.slice", "user@1000.service", "app.slice"]
    fields = fields_of([*names, r"job\x2d4711@a\x2fb.service"], ["4711"], name_of)
    assert fields["unit"] == "job-4711@a/b.service"
    assert fields["name"] == "job-4711@a/b"
    assert fields["instance"] == "a/b"
    assert (fields["slice"], fields["uid"], fields["user"]) == ("app", "1000", "alice")
    assert (fields["1"], fields["2"]) == ("4711", "")
    assert unescape(r"\x2d\xc3\xa4\xff\x2") == "-ä\N{REPLACEMENT CHARACTER}\\x2"


def test_what_is_not_there_is_empty() -> None:
    """A template that finds nothing gives the default, not a guess."""
    fields = fields_of(["job-1.scope"], [], name_of)
    assert fill("{user}", fields) == ""
    assert fill(" {slice} ", fields, "default") == "default"
    assert fill("{1}{2}{instance}-{name}", fields) == "-job-1"


@given(st.text(), st.lists(st.text(), max_size=12))
def test_whatever_a_unit_is_called_fits_a_bill(name: str, stars: list[str]) -> None:
    """Names come from whoever may start units; braces and control characters are only text."""
    fields = fields_of(["user-1000.slice", name], stars, name_of)
    filled = fill("{unit} {name} {instance} {slice} {1} {9}", fields)
    assert len(filled) <= 256
    assert "\n" not in filled
    assert fields["user"] == "alice"


def test_without_settings_no_unit_is_a_job() -> None:
    """A stock machine's services are nobody's jobs."""
    settings, problems = asked()
    assert (settings.units, problems) == ((), [])


@pytest.mark.parametrize("units", [["job-*"], ["/job-1.service"], ["a//b.scope"], ["../x.scope"]])
def test_a_pattern_that_cannot_be_a_unit_is_refused(units: list[Toml]) -> None:
    """With an example of a right one."""
    (problem,) = asked(units=units)[1]
    assert "jobs.slice/job-*.scope" in problem


@pytest.mark.parametrize(
    "template", ["{who}", "{}", "{0}", "{unit!r}", "{unit:>9}", "{unit", "{unit.real}"]
)
def test_a_template_with_an_unknown_field_is_refused(template: str) -> None:
    """With the fields that there are; nothing of Python can be reached through it."""
    (problem,) = asked(vc=template)[1]
    assert problem.startswith("[systemd] vc: ")
    assert "{unit}, {name}, {instance}, {slice}, {user}, {uid} and {1} to {9}" in problem
