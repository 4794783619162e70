"""How ratios are changed: one by one, or a list at once with its difference shown first.

A change holds the price lock exclusively and reads the clock of the database after it has
it, so no record can be rated at a price that the change replaces. Versions and audit are
written in the same transaction, all or nothing.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby

from aggregator.billing.audit import Author, Entry, record
from aggregator.billing.database import Connection, Database
from aggregator.billing.periods import closed_until
from aggregator.billing.ratio_plan import (
    Difference,
    Ratio,
    audit_entry,
    check_open,
    plan,
    plan_deletion,
)
from aggregator.billing.ratios import clock_of, live_versions
from aggregator.model import PRICE_LOCK
from aggregator.rating.ratio import parse, why_unstorable
from aggregator.rating.versions import Change, Version
from aggregator.store.queries import query

_log = logging.getLogger(__name__)

_FIRST = datetime.min.replace(tzinfo=UTC)

_LOCK_PRICES = query("lock_prices")
_CLOSE_RATIO = query("close_ratio")
_INSERT_RATIO = query("insert_ratio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What a list does, and the state of all ratios (see `import_ratios`) that it found."""

    differences: Sequence[Difference]
    state: str


class StaleError(Exception):
    """The ratios changed since their state was looked at."""


async def set_ratio(database: Database, ratio: Ratio, author: Author) -> Difference:
    """Declare one value. Raises RangeError."""
    async with database.changing() as connection:
        prices = await _Prices.locked(connection, author, [ratio], ratio.key)
        (difference,) = prices.set([ratio])
        await prices.write()
    _log_changes([difference], author)
    return difference


async def delete_ratio(database: Database, key: str, author: Author) -> Difference | None:
    """Leave a key without a price; None if it has none."""
    if why_unstorable(key):
        return None
    async with database.changing() as connection:
        prices = await _Prices.locked(connection, author, (), key)
        difference = prices.delete(key)
        await prices.write()
    _log_changes([difference] if difference else [], author)
    return difference


async def import_ratios(
    database: Database,
    ratios: Iterable[Ratio],
    author: Author,
    *,
    replaces_all: bool = False,
    is_dry_run: bool = False,
    if_state: str | None = None,
) -> Imported:
    """Declare many values at once, or only say what that would do; all or nothing.

    `replaces_all` also deletes every key that is not among them. `if_state`: the state that
    a dry run found.

    Raises:
        RangeError: one of them cannot hold as it was declared.
        StaleError: there is another state than `if_state`.
    """
    wanted = sorted(ratios, key=lambda ratio: (ratio.key, ratio.start or _FIRST))
    async with database.changing(undo=is_dry_run) as connection:
        prices = await _Prices.locked(connection, author, wanted)
        if if_state is not None and if_state != prices.state:
            raise StaleError
        differences: list[Difference] = []
        for _, group in groupby(wanted, key=lambda ratio: ratio.key):
            differences += prices.set(list(group))
        if replaces_all:
            surplus = sorted(prices.versions.keys() - {ratio.key for ratio in wanted})
            gone = [prices.delete(key) for key in surplus]
            differences += [each for each in gone if each]
        await prices.write()
    _log_changes([] if is_dry_run else differences, author)
    return Imported(differences=differences, state=prices.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prices:
    """The versions of one transaction that may change them, and the instant it acts at."""

    connection: Connection
    author: Author
    now: datetime
    closed_until: datetime | None
    versions: Mapping[str, Sequence[Version[Decimal]]]
    closes: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    opens: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    audit: list[Entry] = field(default_factory=list[Entry])

    @classmethod
    async def locked(
        cls,
        connection: Connection,
        author: Author,
        wanted: Sequence[Ratio],
        key: str | None = None,
    ) -> "_Prices":
        """Shut the rater out until the transaction ends, and only then ask the time."""
        await connection.execute(_LOCK_PRICES, {"lock": PRICE_LOCK})
        now = await clock_of(connection)
        starts = [ratio.start for ratio in wanted if ratio.start]
        since = min([now, *starts])
        closed = await closed_until(connection) if since < now else None
        versions = await live_versions(connection, since, key)
        return cls(
            connection=connection, author=author, now=now, closed_until=closed, versions=versions
        )

    @property
    def state(self) -> str:
        """A digest of what is in force from now on."""
        digest = hashlib.sha256()
        for versions in self.versions.values():
            for each in versions:
                if each.ends_after(self.now):
                    digest.update(f"{each.version_id} {each.ends_at}\n".encode())
        return digest.hexdigest()[:32]

    def set(self, ratios: Sequence[Ratio]) -> Sequence[Difference]:
        """Plan what declares these ratios of one key."""
        key = ratios[0].key
        change, differences = plan(self.versions.get(key, ()), ratios, self.now)
        for ratio, difference in zip(ratios, differences, strict=True):
            check_open(ratio, difference, self.closed_until)
        self._plan(key, change, differences)
        return differences

    def delete(self, key: str) -> Difference | None:
        """Plan what leaves a key without a price; None if it has none."""
        change, difference = plan_deletion(key, self.versions.get(key, ()), self.now)
        if difference:
            self._plan(key, change, [difference])
        return difference

    async def write(self) -> None:
        """Write all that was planned."""
        async with self.connection.cursor() as cursor:
            if self.closes:
                await cursor.executemany(_CLOSE_RATIO, self.closes)
            if self.opens:
                await cursor.executemany(_INSERT_RATIO, self.opens)
        await record(self.connection, self.audit, self.author)

    def _plan(
        self, key: str, change: Change[Decimal] | None, differences: Sequence[Difference]
    ) -> None:
        who: dict[str, object] = {"actor": self.author.actor, "reason": self.author.reason}
        meaning = parse(key)
        for ratio_id, ends_at in change.closes if change else ():
            self.closes.append({"ratio_id": ratio_id, "ends_at": ends_at} | who)
        for opening in change.opens if change else ():
            self.opens.append(
                {
                    "key": key,
                    "type": meaning and meaning.type.value,
                    "model": meaning and meaning.model,
                    "vc": meaning and meaning.vc,
                    "value": opening.value,
                    "starts_at": opening.starts_at,
                    "ends_at": opening.ends_at,
                }
                | who
            )
        self.audit.extend(audit_entry(each) for each in differences if each.action != "keep")


def _log_changes(differences: Iterable[Difference], author: Author) -> None:
    for each in differences:
        if each.action != "keep":
            fields = {"key": each.key, "old": each.old, "new": each.new, "actor": author.actor}
            _log.info("price changed", extra={"action": "price_changed", **fields})
