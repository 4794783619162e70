"""Claims about the items that every dialect shows."""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import psycopg
import pytest

from aggregator.billing.database import CHUNK_ROWS, SHORT_ROWS, Database
from aggregator.billing.item_lists import (
    ItemFilter,
    ItemsAsked,
    Page,
    list_items,
    list_measured_items,
)
from aggregator.billing.items import Item, list_nodes, list_users
from aggregator.billing.scope import EVERYTHING
from aggregator.errors import DatabaseError
from aggregator.rating.price import EXACT
from aggregator.store.pool import Pool
from tests.integration.aggregator.rows import NOON, Rows

HOUR_MS = 3_600_000


async def items(database: Database, **which: object) -> list[Item]:
    """All items that match, in order."""
    found: list[Item] = []
    async with list_items(database, ItemsAsked(which=ItemFilter(**which)), EVERYTHING) as listing:  # type: ignore[arg-type]
        while chunk := await listing.rows.chunk():
            found += chunk
    return found


def copies(rows: Rows, count: int) -> None:
    """Items that differ by their id alone."""
    rows.bill()
    rows.connection.execute(
        """
        INSERT INTO bill (bill_id, run_id, cluster, node, job_id, job_name, user_id, username, vc,
            project, namespace, kind, type, model, quota, started_at, ended_at, allocated, used,
            effective, billed, unpriced, length_ms, observed_ms, amount, ratio_id, is_mixed,
            item_class_id)
        SELECT gen_random_uuid(), run_id, cluster, node, job_id, job_name,
            user_id, username, vc, project, namespace, kind, type, model, quota, started_at,
            ended_at, allocated, used, effective, billed, unpriced, length_ms, observed_ms,
            amount, ratio_id, is_mixed, item_class_id
        FROM (SELECT * FROM bill LIMIT 1) AS one, generate_series(2, %s)
        """,
        (count,),
    )


async def test_items_come_newest_first_then_by_job_and_type(database: Database, rows: Rows) -> None:
    """Start descending, then job, then type."""
    rows.bill("b", type_="mem")
    rows.bill("b", type_="cpu")
    rows.bill("a")
    rows.bill("z", started_at=NOON + timedelta(hours=1))
    order = [(item.job_id, item.type) for item in await items(database)]
    assert order == [("z", "cpu"), ("a", "cpu"), ("b", "cpu"), ("b", "mem")]


async def test_a_fee_under_one_price_is_the_double_product(database: Database, rows: Rows) -> None:
    """62/3 m-hours at 100 are the published 2066.666666666667."""
    ratio_id = rows.ratio("cpu", "100")
    billed = 62 * 1_200_000
    rows.bill(billed=billed, amount=Decimal(billed) * 100, ratio_id=ratio_id)
    (item,) = await items(database)
    assert repr(item.usage) == "20.666666666666668"
    assert repr(item.fee) == "2066.666666666667"


async def test_a_fee_under_several_prices_is_the_rounded_exact_sum(
    database: Database, rows: Rows
) -> None:
    """A third of an hour at 0.1 and two thirds at 0.2."""
    amount = EXACT.add(Decimal("0.1") * (HOUR_MS // 3), Decimal("0.2") * (HOUR_MS * 2 // 3))
    rows.bill(billed=HOUR_MS, amount=amount, is_mixed=True)
    (item,) = await items(database)
    assert item.fee == 0.5 / 3


@pytest.mark.parametrize("ratio_id", [None, 0])
async def test_an_item_without_a_price_costs_nothing_yet(
    database: Database, rows: Rows, ratio_id: int | None
) -> None:
    """Not rated yet, or unpriced: fee 0, and the usage is there."""
    rows.bill(billed=HOUR_MS, unpriced=HOUR_MS, ratio_id=ratio_id)
    (item,) = await items(database)
    assert (item.usage, item.fee) == (1, 0)


async def test_every_filter_selects_by_equality(database: Database, rows: Rows) -> None:
    """Each alone finds the one item that differs."""
    user = uuid4()
    rows.bill("other", job_name="this", type_="mem", vc="other", node="other", user_id=user)
    rows.bill("same")
    for which in (
        {"user_id": user},
        {"type": "mem"},
        {"job_id": "other"},
        {"job": "other"},
        {"job": "this"},
        {"vc": "other"},
        {"node": "other"},
    ):
        assert [item.job_id for item in await items(database, **which)] == ["other"], which


async def test_a_job_runs_while_any_of_its_runs_lives_on_a_node_that_speaks(
    database: Database, rows: Rows
) -> None:
    """Also on its items of an older quota; a node silent for ten minutes is lost."""
    lost = rows.node("lost", silent=timedelta(minutes=11))
    quiet = rows.node("quiet", silent=timedelta(minutes=9))
    rows.bill("done")
    rows.bill("resized")
    rows.bill("resized", is_live=True, node_id=quiet, started_at=NOON + timedelta(hours=1))
    rows.bill("gone", is_live=True, node_id=lost)
    running = {item.bill_id: item.job_id for item in await items(database) if item.is_running}
    assert sorted(running.values()) == ["resized", "resized"]
    asked = await items(database, is_running=True)
    assert {item.bill_id for item in asked} == set(running)
    idle = await items(database, is_running=False)
    assert [item.job_id for item in idle] == ["done", "gone"]


async def test_a_job_of_another_user_or_virtual_cluster_is_another_job_that_may_run(
    database: Database, rows: Rows
) -> None:
    """Names are not unique among namespaces: what runs there is no news for who may not see it."""
    rows.bill("train", vc="mine", user_id=UUID(int=1))
    rows.bill("train", vc="theirs", user_id=UUID(int=1), is_live=True)
    rows.bill("train", vc="mine", is_live=True)
    (own,) = await items(database, vc="mine", user_id=UUID(int=1))
    assert not own.is_running


async def test_unpriced_items_are_counted_by_the_same_filter(
    database: Database, rows: Rows
) -> None:
    """The count is of what the list shows."""
    rows.bill("a", billed=5, unpriced=5)
    rows.bill("b", billed=5, unpriced=1, type_="mem", is_mixed=True)
    rows.bill("c", billed=5)
    for which, count in ((ItemFilter(), 2), (ItemFilter(type="mem"), 1)):
        async with list_items(database, ItemsAsked(which=which), EVERYTHING) as listing:
            assert listing.unpriced_items == count


async def test_a_long_list_comes_in_chunks(database: Database, rows: Rows) -> None:
    """The last chunk is the short one, of what was begun with as of what follows."""
    copies(rows, CHUNK_ROWS + 1)
    async with list_items(database, ItemsAsked(), EVERYTHING) as listing:
        sizes = [len(await listing.rows.chunk()) for _ in range(3)]
    assert sizes == [CHUNK_ROWS, 1, 0]
    copies(rows, SHORT_ROWS - 1)
    async with list_items(database, ItemsAsked(), EVERYTHING) as listing:
        sizes = [len(await listing.rows.chunk(SHORT_ROWS)) for _ in range(2)]
    assert sizes == [SHORT_ROWS, CHUNK_ROWS]


@pytest.mark.parametrize("count", [SHORT_ROWS, SHORT_ROWS + 1, SHORT_ROWS + 3])
async def test_nothing_is_left_out_or_doubled_where_a_list_is_no_longer_short(
    database: Database, rows: Rows, count: int
) -> None:
    """In its order, of items that differ in nothing but their id."""
    copies(rows, count)
    expected = rows.connection.execute("SELECT bill_id::text FROM bill ORDER BY bill_id").fetchall()
    assert [item.bill_id for item in await items(database)] == [bill_id for (bill_id,) in expected]
    found: list[str] = []
    async with list_measured_items(database, ItemsAsked(), EVERYTHING) as listing:
        while chunk := await listing.rows.chunk():
            found += [item.bill_id for item, _ in chunk]
    assert found == [bill_id for (bill_id,) in expected]


@pytest.mark.parametrize("limit", [SHORT_ROWS - 1, SHORT_ROWS, SHORT_ROWS + 1])
async def test_pages_of_any_size_are_the_list(database: Database, rows: Rows, limit: int) -> None:
    """The short ones are read otherwise than the long ones."""
    copies(rows, SHORT_ROWS + 1)
    found: list[Item] = []
    sizes: list[int] = []
    page: Page | None = Page(limit=limit)
    while page:
        async with list_items(database, ItemsAsked(page=page), EVERYTHING) as listing:
            before = len(found)
            while chunk := await listing.rows.chunk():
                found += chunk
            sizes.append(len(found) - before)
            following = listing.following
        page = Page(limit=limit, after=following) if following else None
    assert found == await items(database)
    assert sizes == ([limit] if limit > SHORT_ROWS else [limit, SHORT_ROWS + 1 - limit])


async def test_quotas_are_shown_in_the_units_of_the_api(database: Database, rows: Rows) -> None:
    """KiB as Mi, 126,000ths as devices."""
    rows.bill("a", type_="mem", quota=262_144)
    rows.bill("b", type_="gpu", quota=252_000)
    assert [item.quota_units for item in await items(database)] == [256, 2]


async def test_coverage_is_the_observed_part_of_the_time(database: Database, rows: Rows) -> None:
    """Unknown before anything is rated, never 0."""
    rows.bill("a", length_ms=60_000, observed_ms=45_000)
    rows.bill("b")
    async with list_measured_items(database, ItemsAsked(), EVERYTHING) as listing:
        found = await listing.rows.chunk()
    assert [measured.coverage for _, measured in found] == [0.75, None]


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"])
def test_a_text_that_no_row_can_hold_matches_nothing(text: str) -> None:
    """Known before the database is asked."""
    assert ItemFilter(job_id=text).matches_nothing
    assert ItemFilter(job=text).matches_nothing
    assert not ItemFilter(job_id="job").matches_nothing


async def test_users_come_by_name(database: Database, rows: Rows) -> None:
    """A user without a name comes last."""
    rows.user(None, UUID(int=1))
    rows.user("bob", UUID(int=2))
    rows.user("alice", UUID(int=3))
    async with list_users(database, EVERYTHING) as listing:
        assert [user.username for user in await listing.chunk()] == ["alice", "bob", None]


async def test_nodes_say_whether_they_live_and_what_runs(database: Database, rows: Rows) -> None:
    """Jobs are counted once, however many runs they have."""
    node_id = rows.node("a")
    rows.node("b", silent=timedelta(hours=1))
    rows.run("job-1", node_id=node_id, is_live=True)
    rows.run("job-1", node_id=node_id, is_live=True)
    rows.run("job-2", node_id=node_id)
    nodes = [
        (n.name, n.is_alive, n.live_jobs, n.mem_units)
        for n in await list_nodes(database, EVERYTHING)
    ]
    assert nodes == [("a", True, 1, 16384), ("b", False, 0, 16384)]


async def test_a_database_that_is_gone_is_one_error(
    database: Database, pool: Pool, rows: Rows
) -> None:
    """Whatever psycopg calls it; also in the middle of a list."""
    kill = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )

    async def list_and_kill() -> None:
        async with list_items(database, ItemsAsked(), EVERYTHING) as listing:
            rows.connection.execute(kill)
            await listing.rows.chunk()

    with pytest.raises(DatabaseError):
        await list_and_kill()
    await pool.close()
    with pytest.raises(DatabaseError):
        await list_nodes(database, EVERYTHING)


async def test_a_snapshot_changes_nothing(database: Database) -> None:
    """Reading transactions are read-only in the database, too."""
    with pytest.raises(DatabaseError) as raised:
        async with database.reading() as connection:
            await connection.execute(b"DELETE FROM bill")
    assert isinstance(raised.value.__cause__, psycopg.errors.ReadOnlySqlTransaction)


async def test_the_schema_is_current_after_a_migration(database: Database, rows: Rows) -> None:
    """And not when a migration is missing."""
    assert await database.schema_is_current()
    rows.connection.execute("DELETE FROM schema_migration")
    assert not await database.schema_is_current()
