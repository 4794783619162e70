"""Claims about changing, reading and importing ratios, on the database's own clock."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest

from aggregator.billing.audit import Author, list_changes
from aggregator.billing.database import Connection, Database
from aggregator.billing.ratio_changes import (
    StaleError,
    delete_ratio,
    import_ratios,
    set_ratio,
)
from aggregator.billing.ratio_plan import Difference, RangeError, Ratio
from aggregator.billing.ratios import list_history, list_ratios
from aggregator.billing.scope import EVERYTHING
from aggregator.errors import DatabaseError
from aggregator.model import PRICE_LOCK
from aggregator.rating.versions import next_minute
from tests.integration.aggregator.rows import NOON, Rows

DAY = timedelta(days=1)
ADA = Author(actor="ada", reason="new contract")


def ratio(key: str, value: str) -> Ratio:
    return Ratio(key=key, value=Decimal(value))


def said(done: Difference) -> tuple[str, int | None, int | None]:
    """What a change did, its values as whole numbers."""
    old, new = (None if each is None else int(each) for each in (done.old, done.new))
    return done.action, old, new


def clock(rows: Rows) -> datetime:
    """What the database's clock says."""
    row = rows.connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    assert isinstance(row[0], datetime)
    return row[0]


async def declared(database: Database) -> dict[str, str]:
    return {each.key: str(each.value) for each in await list_ratios(database, EVERYTHING)}


async def test_a_first_value_holds_from_the_current_minute(database: Database, rows: Rows) -> None:
    """Set-then-run is priced."""
    before = clock(rows)
    done = await set_ratio(database, ratio("cpu", "10"), ADA)
    assert said(done) == ("add", None, 10)
    assert done.effective_at is not None
    assert before.replace(second=0, microsecond=0) <= done.effective_at <= clock(rows)
    (shown,) = await list_ratios(database, EVERYTHING)
    assert (shown.key, shown.value) == ("cpu", Decimal(10))
    assert shown.starts_at is None


async def test_a_new_value_holds_from_the_next_minute_and_shows_at_once(
    database: Database, rows: Rows
) -> None:
    """The old version is closed where the new one begins; who and why are kept."""
    await set_ratio(database, ratio("cpu", "10"), ADA)
    before = clock(rows)
    done = await set_ratio(database, ratio("cpu", "20"), Author(actor="bob"))
    assert said(done) == ("change", 10, 20)
    assert done.effective_at is not None
    assert next_minute(before) <= done.effective_at <= next_minute(clock(rows))
    (shown,) = await list_ratios(database, EVERYTHING)
    assert shown.value == 20
    assert shown.starts_at == done.effective_at or clock(rows) >= done.effective_at
    new, old = await list_history(database, "cpu")
    assert old.ends_at == new.starts_at == done.effective_at
    assert (old.created_by, old.reason, old.closed_by) == ("ada", "new contract", "bob")
    assert (new.created_by, new.reason, new.closed_by) == ("bob", None, None)


async def test_an_equal_value_makes_no_version(database: Database) -> None:
    """However it is written."""
    await set_ratio(database, ratio("cpu", "10"), ADA)
    done = await set_ratio(database, ratio("cpu", "10.000"), ADA)
    assert (done.action, done.effective_at) == ("keep", None)
    assert len(await list_history(database, "cpu")) == 1


async def test_the_last_of_several_values_within_a_minute_counts(database: Database) -> None:
    """Those between keep their rows, with starts_at = ends_at."""
    for value in ("1", "2", "3"):
        await set_ratio(database, ratio("cpu", value), ADA)
    assert await declared(database) == {"cpu": "3"}
    history = await list_history(database, "cpu")
    assert [int(version.value) for version in history] == [3, 2, 1]
    assert history[0].ends_at is None


async def test_a_deleted_key_is_gone_at_once_and_its_history_stays(database: Database) -> None:
    """Deleting it again finds nothing."""
    await set_ratio(database, ratio("cpu", "10"), ADA)
    done = await delete_ratio(database, "cpu", ADA)
    assert done is not None
    assert said(done) == ("delete", 10, None)
    assert await declared(database) == {}
    assert await delete_ratio(database, "cpu", ADA) is None
    (version,) = await list_history(database, None)
    assert version.ends_at == done.effective_at


async def test_a_key_can_be_set_again_right_after_its_deletion(database: Database) -> None:
    """The versions meet without overlap."""
    await set_ratio(database, ratio("cpu", "10"), ADA)
    await delete_ratio(database, "cpu", ADA)
    await set_ratio(database, ratio("cpu", "10"), ADA)
    assert await declared(database) == {"cpu": "10"}


async def test_any_key_is_stored_and_known_ones_are_understood(
    database: Database, rows: Rows
) -> None:
    """The rater reads type, model and vc, never the text."""
    keys = [r"gpu:NVIDIA\: H200@vc1", "tokens"]
    for key in keys:
        await set_ratio(database, ratio(key, "1"), ADA)
    found = rows.connection.execute(
        "SELECT key, type, model, vc FROM ratio ORDER BY key"
    ).fetchall()
    assert found == [
        (keys[0], "gpu", "NVIDIA: H200", "vc1"),
        ("tokens", None, None, None),
    ]


async def test_a_value_is_kept_to_its_last_digit(database: Database) -> None:
    """No double on the way."""
    value = "0.1234567890123456789012345678901234567890"
    await set_ratio(database, ratio("cpu", value), ADA)
    assert await declared(database) == {"cpu": value}


async def test_a_change_can_be_scheduled(database: Database, rows: Rows) -> None:
    """The list keeps showing what is in force."""
    start = next_minute(clock(rows)) + timedelta(hours=1)
    await set_ratio(database, ratio("cpu", "1"), ADA)
    done = await set_ratio(database, Ratio(key="cpu", value=Decimal(2), start=start), ADA)
    assert done.effective_at == start
    assert await declared(database) == {"cpu": "1"}
    past = Ratio(key="cpu", value=Decimal(3), start=datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(RangeError) as raised:
        await set_ratio(database, past, ADA)
    assert (raised.value.ratio, raised.value.bound) == (past, "start")
    assert len(await list_history(database, "cpu")) == 2


async def test_an_import_says_what_it_does_to_each_key(database: Database) -> None:
    """Keys that it does not name stay."""
    for key in ("cpu", "gpu", "mem"):
        await set_ratio(database, ratio(key, "1"), ADA)
    wanted = [ratio("npu", "7"), ratio("mem", "2"), ratio("cpu", "1.0")]
    done = await import_ratios(database, wanted, ADA, replaces_all=False, is_dry_run=False)
    assert [(each.key, each.action) for each in done.differences] == [
        ("cpu", "keep"),
        ("mem", "change"),
        ("npu", "add"),
    ]
    assert await declared(database) == {"cpu": "1", "gpu": "1", "mem": "2", "npu": "7"}


async def test_an_import_can_replace_the_whole_set(database: Database) -> None:
    """Then what is declared is what was imported."""
    for key in ("cpu", "gpu"):
        await set_ratio(database, ratio(key, "1"), ADA)
    wanted = [ratio("cpu", "1")]
    done = await import_ratios(database, wanted, ADA, replaces_all=True, is_dry_run=False)
    assert [(each.key, each.action) for each in done.differences] == [
        ("cpu", "keep"),
        ("gpu", "delete"),
    ]
    assert await declared(database) == {"cpu": "1"}


async def test_a_dry_run_says_the_same_and_changes_nothing(database: Database) -> None:
    """Also what it would delete."""
    await set_ratio(database, ratio("cpu", "1"), ADA)
    wanted = [ratio("mem", "2")]
    dry = await import_ratios(database, wanted, ADA, replaces_all=True, is_dry_run=True)
    assert await declared(database) == {"cpu": "1"}
    done = await import_ratios(database, wanted, ADA, replaces_all=True, is_dry_run=False)
    assert [(e.key, e.action, e.old, e.new) for e in dry.differences] == [
        (e.key, e.action, e.old, e.new) for e in done.differences
    ]


@asynccontextmanager
async def rating(database: Database) -> AsyncGenerator[Connection]:
    """The rater's hold on the prices."""
    async with database.changing() as connection:
        await connection.execute(b"SELECT pg_advisory_xact_lock_shared(%s)", (PRICE_LOCK,))
        yield connection


async def until_one_waits(rows: Rows) -> None:
    """Return when somebody is held back by an advisory lock of this database."""
    waiting = b"""SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
    for _ in range(1000):
        if rows.connection.execute(waiting).fetchone() == (1,):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nobody waits for the lock")


async def test_a_change_waits_for_the_rater_and_reads_the_clock_after_it(
    database: Database, rows: Rows
) -> None:
    """So a record rated meanwhile lies before the change."""
    async with rating(database):
        change = asyncio.create_task(set_ratio(database, ratio("cpu", "1"), ADA))
        await until_one_waits(rows)
        rated_until = clock(rows)
        assert not change.done()
    await change
    (version,) = await list_history(database, "cpu")
    assert version.created_at > rated_until


async def test_two_changes_of_one_key_follow_each_other(database: Database) -> None:
    """Whoever comes second sees the first."""
    wanted = [ratio("cpu", str(value)) for value in range(1, 4)]
    await asyncio.gather(*(set_ratio(database, each, ADA) for each in wanted))
    history = await list_history(database, "cpu")
    assert sorted(int(version.value) for version in history) == [1, 2, 3]
    assert len([version for version in history if version.ends_at is None]) == 1


async def test_the_database_refuses_what_breaks_the_rules(rows: Rows) -> None:
    """Overlap, a start off the minute and a negative value have no way in."""
    rows.ratio("cpu", "1")
    with pytest.raises(psycopg.errors.ExclusionViolation):
        rows.ratio("cpu", "2", starts_at=datetime(2026, 3, 1, tzinfo=UTC))
    with pytest.raises(psycopg.errors.CheckViolation):
        rows.ratio("mem", "1", starts_at=datetime(2026, 3, 1, 0, 0, 1, tzinfo=UTC))
    with pytest.raises(psycopg.errors.CheckViolation):
        rows.ratio("mem", "-1")


async def test_too_many_requests_at_once_are_turned_away(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than taking the last connection."""
    async with database.reading(), database.reading(), database.reading():
        monkeypatch.setattr("aggregator.billing.database._WAIT_SECONDS", 0.05)
        with pytest.raises(DatabaseError, match="at once"):
            await list_ratios(database, EVERYTHING)
        monkeypatch.undo()
    assert await list_ratios(database, EVERYTHING) == []


async def test_every_change_is_audited_with_it(database: Database) -> None:
    """Who, what, from when and why; what changes nothing is no change."""
    await set_ratio(database, ratio("cpu", "1"), ADA)
    await set_ratio(database, ratio("cpu", "1"), ADA)
    await set_ratio(database, ratio("cpu", "2"), Author(actor="bob"))
    await delete_ratio(database, "cpu", Author(actor="eve", reason="mistake"))
    await import_ratios(database, [ratio("mem", "1")], ADA, is_dry_run=True)
    found = await list_changes(database, limit=9)
    assert [(e.actor, e.action, e.old_value, e.new_value, e.reason) for e in found] == [
        ("eve", "delete", "2", None, "mistake"),
        ("bob", "change", "1", "2", None),
        ("ada", "add", None, "1", "new contract"),
    ]
    assert all(e.effective_at and (e.subject, e.key) == ("ratio", "cpu") for e in found)
    assert await list_changes(database, key="mem", limit=9) == []
    assert len(await list_changes(database, actor="bob", subject="ratio", limit=9)) == 1
    assert len(await list_changes(database, limit=2)) == 2


async def test_an_import_is_refused_when_prices_changed_since_its_difference(
    database: Database,
) -> None:
    """Nothing of it is applied; with the state that there is it is."""
    await set_ratio(database, ratio("cpu", "1"), ADA)
    dry = await import_ratios(database, [ratio("mem", "2")], ADA, is_dry_run=True)
    await set_ratio(database, ratio("gpu", "1"), ADA)
    with pytest.raises(StaleError):
        await import_ratios(database, [ratio("mem", "2")], ADA, if_state=dry.state)
    assert await declared(database) == {"cpu": "1", "gpu": "1"}
    dry = await import_ratios(database, [ratio("mem", "2")], ADA, is_dry_run=True)
    await import_ratios(database, [ratio("mem", "2")], ADA, if_state=dry.state)
    assert await declared(database) == {"cpu": "1", "gpu": "1", "mem": "2"}


async def test_a_list_with_a_schedule_is_declared_at_once(database: Database, rows: Rows) -> None:
    """What is in force, an increase, a sale; said again it changes nothing."""
    start = next_minute(clock(rows)) + timedelta(hours=1)
    listed = [
        ratio("cpu", "1"),
        Ratio(key="cpu", value=Decimal(2), start=start),
        Ratio(key="cpu", value=Decimal(0), start=start + DAY, end=start + 2 * DAY),
    ]
    done = await import_ratios(database, listed, ADA)
    assert [said(each) for each in done.differences] == [
        ("add", None, 1),
        ("change", 1, 2),
        ("change", 2, 0),
    ]
    shown = await list_ratios(database, EVERYTHING, is_scheduled=True)
    assert [(int(each.value), each.starts_at, each.ends_at) for each in shown] == [
        (1, None, start),
        (2, start, start + DAY),
        (0, start + DAY, start + 2 * DAY),
        (2, start + 2 * DAY, None),
    ]
    again = await import_ratios(database, listed, ADA)
    assert {each.action for each in again.differences} == {"keep"}


async def test_ranges_that_overlap_are_refused_and_nothing_is_applied(
    database: Database, rows: Rows
) -> None:
    """Those of one list, and one that another price lies in."""
    start = next_minute(clock(rows)) + timedelta(hours=1)
    sale = Ratio(key="cpu", value=Decimal(0), start=start, end=start + 2 * DAY)
    within = Ratio(key="cpu", value=Decimal(3), start=start + DAY)
    for listed, faulty in (([sale, within], within), ([ratio("cpu", "1")] * 2, ratio("cpu", "1"))):
        with pytest.raises(RangeError) as raised:
            await import_ratios(database, [ratio("a", "1"), *listed], ADA)
        assert raised.value.ratio == faulty
    assert await list_history(database, None) == []
    await set_ratio(database, within, ADA)
    with pytest.raises(RangeError, match="overlaps the value 3") as raised:
        await set_ratio(database, sale, ADA)
    assert raised.value.bound == "end"


async def test_a_price_for_the_past_is_set_where_that_is_meant(
    database: Database, rows: Rows
) -> None:
    """On a whole hour; what was in force from there on ends there."""
    rows.ratio("cpu", "1", starts_at=NOON)
    late = Ratio(key="cpu", value=Decimal(2), start=NOON + DAY, is_retroactive=True)
    done = await set_ratio(database, late, ADA)
    assert (said(done), done.effective_at) == (("change", 1, 2), NOON + DAY)
    new, old = await list_history(database, "cpu")
    assert (new.starts_at, new.ends_at, old.ends_at) == (NOON + DAY, None, NOON + DAY)
    before = Ratio(key="mem", value=Decimal(2), start=NOON, is_retroactive=True)
    await set_ratio(database, before, ADA)
    assert await declared(database) == {"cpu": "2", "mem": "2"}


async def test_no_price_of_a_closed_period_changes(database: Database, rows: Rows) -> None:
    """The earliest start is named; one in the open period is taken."""
    rows.ratio("cpu", "1", starts_at=NOON - DAY)
    rows.connection.execute(
        "INSERT INTO period VALUES ('2026-02-01Z', '2026-03-01Z', now(), 'ada', NULL, '', 0, 0, 0)"
    )
    late = Ratio(key="cpu", value=Decimal(2), start=NOON, is_retroactive=True)
    with pytest.raises(RangeError, match=r"closed period.*2026-03-01T00:00Z is the earliest"):
        await import_ratios(database, [ratio("mem", "1"), late], ADA)
    assert [each.key for each in await list_history(database, None)] == ["cpu"]
    await set_ratio(database, replace(late, start=datetime(2026, 3, 1, tzinfo=UTC)), ADA)


async def test_what_had_no_price_in_a_closed_period_may_get_one(
    database: Database, rows: Rows
) -> None:
    """Up to where it has one; told as retroactive, as in any other past."""
    rows.ratio("cpu", "1", starts_at=NOON + DAY)
    rows.connection.execute(
        "INSERT INTO period VALUES ('2026-02-01Z', '2026-03-01Z', now(), 'ada', NULL, '', 0, 0, 0)"
    )
    first = Ratio(key="cpu", value=Decimal(2), start=NOON, is_retroactive=True)
    with pytest.raises(RangeError, match="must be in the future"):
        await set_ratio(database, replace(first, is_retroactive=False), ADA)
    assert said(await set_ratio(database, first, ADA)) == ("add", None, 2)
    with pytest.raises(RangeError, match="closed period"):
        await set_ratio(database, replace(first, value=Decimal(3)), ADA)
    new, old = await list_history(database, "cpu")
    assert (str(new.value), new.starts_at, new.ends_at) == ("2", NOON, NOON + DAY)
    assert (str(old.value), old.starts_at, old.ends_at) == ("1", NOON + DAY, None)
