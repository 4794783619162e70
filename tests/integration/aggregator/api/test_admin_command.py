"""Claims about the `nodemeter` command, run as a user does against a served application."""

import asyncio
import contextlib
import json
import os
import pty
import re
import socket
import sys
import tty
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

from aggregator.settings import HttpSettings
from aggregator.store.pool import Pool
from tests.integration.aggregator.api.client import Api, served
from tests.integration.aggregator.rows import Rows

COMMAND = Path(sys.prefix) / "bin/nodemeter"
ALICE = UUID("11111111-2222-3333-4444-555555555555")
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a run of the command left."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever was printed
        return json.loads(self.out)


async def run(*words: str, stdin: str = "", **environment: str) -> Done:
    """The command with exactly this environment of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NODEMETER_")}
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *words,
        env=kept | environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return Done(status=process.returncode, out=out.decode(), err=err.decode())


def url(api: Api) -> str:
    return f"http://127.0.0.1:{api.port}"


async def nodemeter(api: Api, *words: str, stdin: str = "") -> Done:
    """The command against the served application; it must succeed."""
    done = await run("--url", url(api), *words, stdin=stdin)
    assert done.status == 0, done.err
    return done


async def refused(api: Api, *words: str, stdin: str = "") -> str:
    """The message of a call that is wrong: status 2, nothing on standard output."""
    done = await run("--url", url(api), *words, stdin=stdin)
    assert (done.status, done.out) == (2, ""), done
    return done.err


async def test_a_price_is_set_listed_changed_and_deleted(api: Api) -> None:
    """The life of a ratio, by command."""
    await nodemeter(api, "ratios", "set", "cpu", "10")
    (change,) = (
        await nodemeter(api, "ratios", "set", "cpu", "0.5", "--reason", "sale", "--output", "json")
    ).json
    assert (change["key"], change["action"], change["old"], change["new"]) == (
        "cpu",
        "change",
        10,
        0.5,
    )
    listed = (await nodemeter(api, "ratios", "list")).out.split()
    row = listed[listed.index("cpu") :]
    assert row[:3] == ["cpu", "0.5", "m-hour"]
    assert re.fullmatch(r"from \d\d:\d\d UTC|yes", " ".join(row[3:]))
    await nodemeter(api, "ratios", "delete", "cpu")
    assert (await nodemeter(api, "--output", "json", "ratios", "list")).json == []
    history = (await nodemeter(api, "ratios", "history", "cpu", "--output", "json")).json
    assert [(each["value"], each["reason"]) for each in history] == [(0.5, "sale"), (10, None)]
    again = await run("--url", url(api), "ratios", "delete", "cpu")
    assert (again.status, again.err) == (1, "nodemeter: there is no ratio with this key\n")


async def test_a_price_is_said_per_core_hour_and_kept_exactly(api: Api) -> None:
    """And said so again."""
    await nodemeter(api, "ratios", "set", "mem", "0.005", "--per", "GiB-hour")
    assert (await api.get("/api/Ratios")).json() == [{"key": "mem", "value": 0.0000048828125}]
    row = (await nodemeter(api, "ratios", "list", "--per", "GiB-hour")).out.split()[-4:]
    assert row == ["mem", "0.005", "GiB-hour", "yes"]


async def test_a_price_can_be_scheduled(api: Api) -> None:
    """It shows in the history, not yet in the list."""
    start = "2999-01-01T00:00:00Z"
    await nodemeter(api, "ratios", "set", "gpu", "3", "--from", start)
    assert (await nodemeter(api, "ratios", "list", "--output", "json")).json == []
    (version,) = (await nodemeter(api, "ratios", "history", "--output", "json")).json
    assert (version["startsAt"], version["createdBy"]) == (start, "admin@127.0.0.1")


async def test_a_minute_may_be_said_without_its_seconds(api: Api) -> None:
    """By every command alike, as in a list; one that is no whole minute is refused as before."""
    times = ("--from", "2999-01-01T02:00+02:00", "--to", "2999-01-02T00:00Z")
    shown = (await nodemeter(api, "ratios", "set", "gpu", "3", *times)).out
    assert "2999-01-01T00:00:00Z   2999-01-02T00:00:00Z" in shown
    await nodemeter(api, "quotas", "set", "vision", "cpu", "4", *times, "--new")
    await nodemeter(api, "quotas", "reserved", *times)
    await nodemeter(api, "methods", "set", "cpu", "usage", *times[:2])
    quote = await nodemeter(api, "quote", "--gpu", "1", "--hours", "1", "--at", times[1])
    assert "2999-01-01T00:00:00Z   2999-01-01T01:00:00Z" in quote.out
    message = await refused(api, "ratios", "set", "gpu", "3", "--from", "2999-01-01T00:00:30Z")
    assert "--from must be a whole minute like" in message


async def test_a_wrong_price_is_a_wrong_call(api: Api) -> None:
    """Status 2, and words that say what is wrong."""
    for words, message in (
        (["cpu", "-1"], "the value must be 0 or more"),
        (["cpu", "1e15"], "the value must be less than"),
        (["cpu", "NaN"], "the value 'NaN' is no number"),
        (["cpu", "1,5"], "the value '1,5' is no number"),
        (["", "1"], "the key must not be empty"),
        (["a\x1b[31mb", "1"], "the key must not hold control characters"),
        (["cpu", "1", "--per", "hour"], "--per 'hour' is none of"),
        (["gpu", "1", "--per", "core-hour"], "--per 'gpu' is priced per device-hour"),
        (["cpu", "1", "--from", "tomorrow"], "--from must be a whole minute"),
        (["cpu", "1", "--from", "2020-01-01T00:00:00Z"], "--from must be in the future"),
    ):
        assert message in await refused(api, "ratios", "set", *words), words
    for words in (["ratios", "set", "cpu"], ["ratios", "st"], ["--output", "xml", "users"]):
        assert "Usage: nodemeter" in await refused(api, *words)
    assert (await api.get("/api/Ratios")).json() == []


async def test_a_key_that_matches_nothing_is_set_with_a_warning(api: Api) -> None:
    """And so is one that hides another price."""
    done = await nodemeter(api, "ratios", "set", "GPU", "1")
    assert "warning: no usage matches 'GPU'" in done.err
    assert "write `gpu`" in done.err
    await nodemeter(api, "ratios", "set", "gpu:NVIDIA H200", "5")
    done = await nodemeter(api, "ratios", "set", "gpu@vc1", "1")
    assert "set gpu:NVIDIA H200@vc1" in done.err


async def test_a_check_names_what_is_wrong(api: Api, rows: Rows) -> None:
    """And its status says so where a script asks."""
    good = await nodemeter(api, "ratios", "check", "--exit-code")
    assert good.out == "Every key prices usage, and all usage has a price.\n"
    rows.price_class("gpu", "NVIDIA H200")
    rows.bill(type_="gpu", model="NVIDIA H200", unpriced=126_000 * HOUR_MS)
    await nodemeter(api, "ratios", "set", "tokens", "1")
    out = (await nodemeter(api, "ratios", "check")).out
    assert re.search(r"matches nothing +tokens .*the types are", out)
    assert re.search(r"unpriced +gpu:NVIDIA H200@vc1 +1 +1 +no price is in force", out)
    assert (await run("--url", url(api), "ratios", "check", "--exit-code")).status == 1
    assert len((await nodemeter(api, "ratios", "check", "--output", "json")).json) == 2


PRICES = {"cpu": "0.00003", "gpu:NVIDIA H200@vc1": "3.1", "=1+1": "7", "'a": "0"}


async def test_an_export_is_what_an_import_takes(api: Api, tmp_path: Path) -> None:
    """In both formats, to the last digit, also keys that a spreadsheet would compute."""
    for key, value in PRICES.items():
        await api.post("/api/admin/v1/ratios", {"key": key, "value": value})
    for name in ("prices.csv", "prices.json", "prices.yaml"):
        file = tmp_path / name
        await nodemeter(api, "ratios", "export", str(file))
        for key in PRICES:
            assert (await api.delete(f"/api/admin/v1/ratios?key={quote(key)}")).status == 200
        await nodemeter(api, "ratios", "import", str(file))
        listed = (await api.get("/api/admin/v1/ratios")).json()
        assert {each["key"]: each["value"] for each in listed} == PRICES
    for option in ("--format", "--output"):
        piped = await nodemeter(api, "ratios", "export", option, "json")
        assert json.loads(piped.out, parse_float=Decimal)["cpu"] == Decimal("0.00003")


async def test_an_import_shows_its_difference_first(api: Api, tmp_path: Path) -> None:
    """A dry run changes nothing; --replace deletes what the list does not name."""
    await nodemeter(api, "ratios", "set", "cpu", "1")
    await nodemeter(api, "ratios", "set", "mem", "1")
    file = tmp_path / "prices.csv"
    file.write_text("key,value,per\ngpu,2.5,device-hour\nmem,1,\n")
    dry = await nodemeter(api, "ratios", "import", str(file), "--replace", "--dry-run")
    assert re.search(r"gpu +add +- +2.5 ", dry.out)
    assert re.search(r"mem +keep +1 +1 ", dry.out)
    assert re.search(r"cpu +delete +1 +- ", dry.out)
    assert dry.err == "nothing was changed\n"
    assert [each["key"] for each in (await api.get("/api/Ratios")).json()] == ["cpu", "mem"]
    done = await nodemeter(api, "ratios", "import", str(file), "--replace", "--output", "json")
    assert [each["action"] for each in done.json] == ["add", "keep", "delete"]
    assert [each["key"] for each in (await api.get("/api/Ratios")).json()] == ["gpu", "mem"]
    again = await nodemeter(api, "ratios", "import", "-", stdin=file.read_text())
    assert again.err == "nothing to change\n"


async def test_a_list_that_was_cut_off_deletes_nothing(api: Api, tmp_path: Path) -> None:
    """A header alone is no wish to delete all prices; a key that prices nothing is told."""
    await nodemeter(api, "ratios", "set", "cpu", "1")
    file = tmp_path / "prices.csv"
    file.write_text("key,value\n")
    done = await run("--url", url(api), "ratios", "import", str(file), "--replace", "--yes")
    assert (done.status, done.out) == (2, "")
    assert f"{file} holds no prices: --replace would delete all 1" in done.err
    file.write_text("key,value\ncpu,1\nCPU,2\n")
    dry = await nodemeter(api, "ratios", "import", str(file), "--dry-run")
    assert f"warning: {file}, line 3: no usage matches 'CPU'" in dry.err
    assert [each["key"] for each in (await api.get("/api/Ratios")).json()] == ["cpu"]


async def test_a_schedule_is_exported_and_imported(api: Api, tmp_path: Path) -> None:
    """An increase and a sale come back as they were, from a file with a mark and CRLF."""
    file = tmp_path / "prices.csv"
    file.write_text(
        "\ufeffkey,value,from,to\r\ncpu,1,,\r\ncpu,2,2999-01-01T00:00:00Z,\r\n"
        "gpu,0,2999-01-01T00:00:00Z,2999-01-02T00:00:00Z\r\n"
    )
    await nodemeter(api, "ratios", "import", str(file))
    listed = (await nodemeter(api, "ratios", "list", "--scheduled")).out
    assert re.search(r"gpu +0 +device-hour +from 2999-01-01T00:00:00Z until 2999-01-02", listed)
    exported = (await nodemeter(api, "ratios", "export")).out
    assert exported.splitlines() == file.read_text().removeprefix("\ufeff").splitlines()
    again = await nodemeter(api, "ratios", "import", "-", stdin=exported)
    assert again.err == "nothing to change\n"


async def test_a_list_is_not_applied_after_another_change(api: Api) -> None:
    """Who looks at a difference applies that one, or none."""
    dry = await api.post("/api/admin/v1/ratios/import", {"ratios": {"cpu": 1}, "isDryRun": True})
    await nodemeter(api, "ratios", "set", "cpu", "2")
    body = {"ratios": {"cpu": 1}, "ifMatch": dry.headers["ETag"]}
    late = await api.post("/api/admin/v1/ratios/import", body)
    assert (late.status, list(late.json()["errors"])) == (409, ["ifMatch"])
    assert (await api.get("/api/Ratios")).json() == [{"key": "cpu", "value": 2}]
    fresh = await api.post(
        "/api/admin/v1/ratios/import", body | {"isDryRun": True, "ifMatch": None}
    )
    body["ifMatch"] = fresh.headers["ETag"]
    assert (await api.post("/api/admin/v1/ratios/import", body)).status == 200


async def test_a_price_for_the_past_is_asked_for_as_such(api: Api) -> None:
    """On a whole hour; overlapping ranges are refused with what is in the way."""
    past = ("--from", "2026-01-01T00:00:00Z")
    assert "--from must be in the future" in await refused(api, "ratios", "set", "npu", "1", *past)
    await nodemeter(api, "ratios", "set", "npu", "1", *past, "--retroactive")
    odd = ("--from", "2026-01-01T00:30:00Z", "--retroactive")
    assert "must be a whole hour" in await refused(api, "ratios", "set", "npu", "2", *odd)
    later = ("--from", "2999-01-01T00:00:00Z")
    await nodemeter(api, "ratios", "set", "npu", "3", *later)
    sale = ("--from", "2998-01-01T00:00:00Z", "--to", "2999-01-02T00:00:00Z")
    message = await refused(api, "ratios", "set", "npu", "0", *sale)
    assert "--to overlaps the value 3 that is declared from 2999-01-01T00:00Z on" in message
    (first, *_) = (await api.get("/api/admin/v1/audit?key=npu&limit=1")).json()
    assert (first["new"], first["effectiveAt"]) == ("3", "2999-01-01T00:00:00Z")


async def test_a_faulty_list_changes_nothing(api: Api, tmp_path: Path) -> None:
    """The line and the column are named."""
    file = tmp_path / "prices.csv"
    file.write_text("key,value\ncpu,1\nmem,free\n")
    message = await refused(api, "ratios", "import", str(file))
    assert message == f"nodemeter: {file}, line 3, column value: 'free' is no number like 0.25\n"
    assert "cannot be read: No such file" in await refused(api, "ratios", "import", "missing")
    for data, message in (
        (b"\xff\xfek\0", "is not UTF-8 but UTF-16: save it as UTF-8"),
        (b"key,value\ncpu,\xe9\n", "line 2: is not UTF-8 text"),
        (b"k" * (5 << 20), "is larger than 4 MiB"),
    ):
        file.write_bytes(data)
        assert message in await refused(api, "ratios", "import", str(file))
    done = await run("--url", url(api), "ratios", "export", str(tmp_path / "no" / "file"))
    assert (done.status, "cannot be written" in done.err) == (1, True)
    assert (await api.get("/api/Ratios")).json() == []


async def test_a_range_that_is_refused_is_named_by_its_line(api: Api, tmp_path: Path) -> None:
    """Also where only the aggregator can know what is in the way."""
    await nodemeter(api, "ratios", "set", "npu", "3", "--from", "2999-01-01T00:00:00Z")
    file = tmp_path / "prices.csv"
    file.write_text("key,value,from,to\nmem,1,,\ncpu,1,2998-01-01T00:00Z,\n")
    file.write_text(file.read_text() + "npu,1,2998-01-01T00:00Z,2999-01-02T00:00Z\n")
    message = await refused(api, "ratios", "import", str(file))
    assert f"{file}, line 4, column to: overlaps the value 3 that is declared from" in message
    file.write_text('npu:\n- {value: 1, from: "2020-01-01T00:00Z"}\n')
    message = await refused(api, "ratios", "import", str(file), "--format", "yaml")
    assert f"{file}, line 2, column 20 (from): must be in the future" in message
    assert (await api.get("/api/Ratios")).json() == []


async def test_bills_are_shown_and_filtered(api: Api, rows: Rows) -> None:
    """JSON is the API's own answer; a user is named or numbered."""
    rows.user("alice", ALICE)
    hers = 62 * 1_200_000
    rows.bill("a", job_name="training", billed=hers, unpriced=1, user_id=ALICE, username="alice")
    rows.bill("b", type_="mem", is_live=True)
    all_bills = (await nodemeter(api, "bills", "--output", "json")).json
    assert all_bills == (await api.get("/api/Bills")).json()
    for words, jobs in (
        (["--user", "alice"], ["a"]),
        (["--user", str(ALICE).upper()], ["a"]),
        (["--type", "mem"], ["b"]),
        (["--job", "a"], ["a"]),
        (["--job", "training", "--type", "cpu"], ["a"]),
        (["--running"], ["b"]),
        (["--ended", "--vc", "vc1", "--node", "10.0.0.7"], ["a"]),
    ):
        found = (await nodemeter(api, "bills", "--output", "json", *words)).json
        assert [each["jobId"] for each in found] == jobs, words
    table = await nodemeter(api, "bills")
    assert "20.66666667" in table.out
    assert " training (a) " in table.out
    assert table.err.startswith("1 of these have usage without a price")
    csv = await nodemeter(api, "bills", "--output", "csv", "--job", "a")
    assert csv.out.splitlines()[0].startswith("id,startTime,endTime,jobId")
    assert ",20.666666666666668,0,false" in csv.out
    none = await nodemeter(api, "bills", "--job", "c", "--type", "mem", "--ended")
    assert none.err == "nothing matches --type mem --job c --ended\n"
    assert "no user is called 'bob'" in await refused(api, "bills", "--user", "bob")


async def test_an_ambiguous_user_is_asked_for_by_id(api: Api, rows: Rows) -> None:
    """Two clusters may each have their alice."""
    rows.user("alice", ALICE)
    rows.user("alice", UUID(int=5))
    assert str(UUID(int=5)) in await refused(api, "usages", "--user", "alice")


async def test_usages_users_and_nodes_are_shown(api: Api, rows: Rows) -> None:
    """Each in all forms; --detail tells what was measured."""
    rows.user("alice", ALICE)
    rows.node("n1")
    rows.bill("a", billed=2 * HOUR_MS, length_ms=4, observed_ms=3)
    (detail,) = (await nodemeter(api, "usages", "--detail", "--output", "json")).json
    assert (detail["allocated"], detail["used"], detail["coverage"]) == (2, 1, 0.75)
    assert "0.75" in (await nodemeter(api, "usages", "--detail")).out
    (usage,) = (await nodemeter(api, "usages", "--output", "json")).json
    assert (usage["usage"], "fee" in usage) == (2, False)
    assert (await nodemeter(api, "users")).out.split()[-2:] == ["alice", str(ALICE)]
    assert "1 x NVIDIA H200" in (await nodemeter(api, "nodes")).out
    (node,) = (await nodemeter(api, "nodes", "--output", "json")).json
    assert node["devices"][0]["id"] == "GPU-1"


async def test_names_that_would_act_on_a_terminal_are_shown(api: Api, rows: Rows) -> None:
    """In a table as escapes, in CSV as a text."""
    rows.bill("=cmd()", job_name="\x1b]0;pwned\x07", vc="=1")
    assert "\\x1b]0;pwned\\x07" in (await nodemeter(api, "bills")).out
    csv = (await nodemeter(api, "bills", "--output", "csv")).out
    assert ",'=cmd()," in csv
    assert ",'=1," in csv


async def test_an_aggregator_that_is_not_there_is_named(unused_port: int) -> None:
    """With the ways to have one."""
    where = f"http://127.0.0.1:{unused_port}"
    done = await run("users", NODEMETER_URL=where)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"nodemeter: no aggregator answers at {where} (connection refused)")
    assert "make run" in done.err
    assert "Traceback" not in done.err
    for bad in ("127.0.0.1:8080", "ftp://x", "http://", "x y", "http://a:b:c", "http://a:99999999"):
        done = await run("--url", bad, "users")
        assert (done.status, "is no URL like" in done.err) == (2, True), bad
    done = await run("--url", "http://no.such.host.invalid", "users")
    assert (done.status, "(" in done.err, "Traceback" in done.err) == (1, True, False)


@pytest.fixture
def unused_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_token_is_asked_for_where_one_is_needed(pool: Pool) -> None:
    """And one that is not valid is refused."""
    async with served(pool, HttpSettings(open_to=())) as api:
        done = await run("--url", url(api), "users")
        assert (done.status, "--token or NODEMETER_TOKEN" in done.err) == (1, True)
        done = await run("--url", url(api), "users", NODEMETER_TOKEN="abc")
        assert (done.status, "the token is not valid" in done.err) == (1, True)


async def test_something_else_at_the_url_is_told(tmp_path: Path) -> None:
    """A web page, a redirect, nonsense: a sentence, and no token goes elsewhere."""
    answers = {
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<a/>": "is no nodemeter aggregator",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}": "the answer is no list",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n": "answered 302 Found",
        b"HTTP/1.1 799 What\r\nContent-Length: 0\r\n\r\n": "answered 799 What",
        b"nonsense\r\n\r\n": "does not speak HTTP. Is it the port for agents",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[": "broke off",
    }
    for answer, message in answers.items():

        async def reply(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes = answer
        ) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(reply, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            done = await run("--url", f"http://127.0.0.1:{port}", "users")
        assert done.status == 1, answer
        assert message in done.err, answer
        assert "Traceback" not in done.err


async def test_it_helps_with_examples() -> None:
    """It shows calls that work, and the shell can complete."""
    for words in ([], ["bills"], ["ratios", "import"]):
        done = await run(*words, "--help")
        assert done.status == 0
        assert f"Examples:\n    nodemeter {' '.join(words)}".rstrip() in done.out, words
    for shell in ("bash", "zsh", "fish"):
        # It looks for the shell above it; under whatever runs the tests there may be none.
        named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
        completion = await run("--show-completion", shell, **named)
        assert (completion.status, "_NODEMETER_COMPLETE" in completion.out) == (0, True), shell
    version = await run("--version")
    assert re.fullmatch(r"nodemeter \d+\.\d+\.\d+\n", version.out)


async def test_a_reader_that_leaves_early_is_no_error(api: Api, rows: Rows) -> None:
    """`nodemeter bills | head -1`."""
    for _ in range(3):
        rows.bill()
    process = await asyncio.create_subprocess_shell(
        f"{COMMAND} --url {url(api)} bills | head -c 1",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    assert err == b""


async def on_terminal(api: Api, *words: str, typed: str = "", **environment: str) -> Done:
    """The command with a terminal for input and output, on which something is typed."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "TERM"}}
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *("--url", url(api), *words),
        env=kept | {"TERM": "xterm", "COLUMNS": "100"} | environment,
        stdin=theirs,
        stdout=theirs,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    _, err = await process.communicate()
    out = bytearray()
    with contextlib.suppress(OSError):  # the terminal is gone when its last user is
        while piece := os.read(ours, 65_536):
            out += piece
    os.close(ours)
    assert process.returncode is not None
    return Done(status=process.returncode, out=out.decode(), err=err.decode())


async def test_whoever_sits_at_a_terminal_is_asked(api: Api, tmp_path: Path) -> None:
    """Before a price is deleted or a list applied; --yes answers."""
    await nodemeter(api, "ratios", "set", "cpu", "1")
    no = await on_terminal(api, "ratios", "delete", "cpu", typed="n\n")
    assert (no.status, no.err.strip()) == (1, "nodemeter: nothing was deleted")
    assert "Delete the price of cpu?" in no.out
    assert (await on_terminal(api, "ratios", "delete", "cpu", typed="y\n")).status == 0
    file = tmp_path / "prices.csv"
    file.write_text("key,value\nmem,1\n")
    no = await on_terminal(api, "ratios", "import", str(file), typed="n\n")
    assert (no.status, "Apply 1 changes?" in no.out) == (1, True)
    assert (await api.get("/api/Ratios")).json() == []
    assert (await on_terminal(api, "ratios", "import", str(file), typed="y\n")).status == 0
    assert (await on_terminal(api, "ratios", "delete", "mem", "--yes")).status == 0
    assert (await api.get("/api/Ratios")).json() == []


async def test_the_hours_of_a_node_are_shown(api: Api, rows: Rows) -> None:
    """As table, JSON and CSV; what cannot be shown is said, in the command's words."""
    node_id = rows.node("n1")
    rows.account(node_id, "capacity", 126_000 * HOUR_MS)
    rows.account(node_id, "idle", 31_500 * HOUR_MS)
    words = ("conservation", "n1", "--from", "2026-02-06T12:00:00Z")
    table = (await nodemeter(api, *words)).out.splitlines()
    assert table[-1].split() == [
        "2026-02-06T12:00:00Z", "gpu", "GPU-1", "number", "1", "0", "0.25", "0", "0", "0", "0.75",
    ]  # fmt: skip
    assert [row["device"] for row in (await nodemeter(api, *words, "--output", "json")).json] == [
        None,
        "GPU-1",
    ]
    assert len((await nodemeter(api, *words, "--output", "csv")).out.splitlines()) == 3
    empty = await nodemeter(api, "conservation", "n1")
    assert empty.err == "nothing was accounted for in these hours\n"
    assert "--from must be before" in await refused(api, *words, "--to", "2026-02-06T12:00:00Z")
    assert "--to must be a whole minute" in await refused(api, "conservation", "n1", "--to", "now")
    unknown = await run("--url", url(api), "conservation", "n2")
    assert (unknown.status, unknown.err) == (1, "nodemeter: there is no node of this name\n")


async def test_colours_are_for_terminals_alone(api: Api, rows: Rows) -> None:
    """And not where NO_COLOR is set; what users wrote never acts there."""
    rows.bill(job_name="\x1b[2Jé\n")
    shown = await on_terminal(api, "bills")
    assert "\x1b[1m" in shown.out
    assert "\x1b[2J" not in shown.out
    plain = await on_terminal(api, "bills", NO_COLOR="1")
    assert "\x1b" not in plain.out
    for form in ("json", "csv"):
        shown = await on_terminal(api, "bills", "--output", form)
        assert shown.out.isprintable() or "\x1b" not in shown.out
    assert "\x1b" not in (await nodemeter(api, "bills")).out


async def test_a_token_is_made_shown_once_used_and_revoked(api: Api, pool: Pool) -> None:
    """By command, from making it to its end."""
    made = await run("--url", url(api), "tokens", "create", "grafana", "--vc", "vc1")
    assert (made.status, made.out[:10]) == (0, "nodemeter_"), made.err
    assert "not shown again" in made.err
    async with served(pool, HttpSettings(open_to=())) as closed:
        done = await run("--url", url(closed), "bills", NODEMETER_TOKEN=made.out.strip())
        assert done.status == 0, done.err
    listed = (await nodemeter(api, "tokens", "list")).out
    assert "grafana" in listed
    assert made.out.strip() not in listed
    gone = await nodemeter(api, "tokens", "revoke", "grafana", "--yes", "--output", "json")
    assert [each["state"] for each in gone.json] == ["revoked"]
    again = await run("--url", url(api), "tokens", "revoke", "grafana")
    assert (again.status, again.out) == (1, "")
    assert "cannot stand beside" in await refused(
        api, "tokens", "create", "a", "--vc", "v", "--project", "p"
    )
