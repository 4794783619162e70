"""What was held and used in truth, what the ledger says of it, and the difference.

Amounts are in base unit x ms, per job and type. The ledger has three layers, and every one
must say the truth: raw usage, charges and bills; `GET /api/Bills` and the administrators'
usages show the last one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, LiteralString, NamedTuple, TypeAlias

import psycopg
from psycopg.rows import TupleRow

from aggregator.model import ResourceType
from aggregator.rating import money
from aggregator.units import UNITS
from proto.metering.v1 import metering_pb2 as pb
from tests.acceptance.product import ITEMS, Client, Item

Connection: TypeAlias = psycopg.Connection[TupleRow]
Key: TypeAlias = tuple[str, str]
"""Job id and type."""


class Amount(NamedTuple):
    """What a job had of a type; None = the truth does not know it to the unit."""

    allocated: int
    used: int | None = None
    effective: int | None = None


@dataclass(slots=True)
class Truth:
    """What each job had, as whoever made it knows."""

    amounts: dict[Key, Amount] = field(default_factory=dict[Key, Amount])

    def add(self, job_id: str, type_: str, amount: Amount) -> None:
        """Know of a job's type; of an id that is used again, too."""
        before = self.amounts.get((job_id, type_))
        self.amounts[job_id, type_] = amount if before is None else _sum(before, amount, 1)

    def join(self, other: "Truth") -> None:
        """Know what the other knows."""
        for (job_id, type_), amount in other.amounts.items():
            self.add(job_id, type_, amount)

    def less(self, other: "Truth") -> "Truth":
        """What is left without what the other knows, which is part of this."""
        nothing = Amount(0, 0, 0)
        return Truth(
            {
                key: _sum(amount, other.amounts.get(key, nothing), -1)
                for key, amount in self.amounts.items()
            }
        )


def _sum(one: Amount, other: Amount, sign: int) -> Amount:
    allocated, *rest = (
        None if mine is None or its is None else mine + sign * its
        for mine, its in zip(one, other, strict=True)
    )
    assert allocated is not None
    return Amount(allocated, *rest)


_USAGE: Final[LiteralString] = """
    SELECT run.job_id, class.type, sum(kept.allocated), sum(kept.used), sum(kept.effective)
    FROM usage AS kept JOIN meter USING (meter_id) JOIN run USING (run_id)
    JOIN price_class AS class USING (price_class_id)
    GROUP BY 1, 2
"""
_CHARGES: Final[LiteralString] = """
    SELECT bill.job_id, bill.type, sum(kept.allocated), sum(kept.used), sum(kept.effective)
    FROM booking AS kept JOIN bill USING (bill_id)
    GROUP BY 1, 2
"""
_BILLS: Final[LiteralString] = """
    SELECT job_id, type, sum(allocated), sum(used), sum(effective) FROM bill GROUP BY 1, 2
"""
_LAYERS: Final[Mapping[str, LiteralString]] = {"usage": _USAGE, "charge": _CHARGES, "bill": _BILLS}
_COUNTS: Final[LiteralString] = """
    SELECT (SELECT count(*) FROM ingest_group WHERE rated_at IS NULL),
           (SELECT count(*) FROM quarantine),
           (SELECT coalesce(sum(last_sequence - first_sequence + 1), 0) FROM stream_gap),
           (SELECT count(*) FROM stream)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What one snapshot of the database says."""

    layers: Mapping[str, Mapping[Key, Amount]]
    unrated: int
    quarantined: int
    gaps: int
    """Sequences that were declared destroyed."""
    streams: int


def read_ledger(url: str) -> Ledger:
    """Read all of it at once."""
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        layers = {layer: _amounts(connection, query) for layer, query in _LAYERS.items()}
        row = connection.execute(_COUNTS).fetchone()
    assert row is not None
    unrated, quarantined, gaps, streams = map(int, row)
    return Ledger(
        layers=layers, unrated=unrated, quarantined=quarantined, gaps=gaps, streams=streams
    )


def read_quarantine(url: str) -> Truth:
    """What was set aside: usage that is kept whole, and not billed."""
    aside = Truth()
    with psycopg.connect(url) as connection:
        for (payload,) in connection.execute("SELECT payload FROM quarantine").fetchall():
            batch = pb.Batch.FromString(payload)
            jobs = {run.number: run.job_id for run in batch.runs if run.provider != "node"}
            meters = {meter.number: meter for meter in batch.meters}
            columns = batch.records
            for number, *sums in zip(
                columns.meter, columns.allocated, columns.used, columns.effective, strict=True
            ):
                meter = meters[number]
                if meter.run in jobs:
                    aside.add(jobs[meter.run], meter.type, Amount(*sums))
    return aside


def _amounts(connection: Connection, statement: LiteralString) -> Mapping[Key, Amount]:
    rows = connection.execute(statement).fetchall()
    return {
        (str(job_id), str(type_)): Amount(int(allocated), int(used), int(effective))
        for job_id, type_, allocated, used, effective in rows
    }


@dataclass(slots=True)
class Verdict:
    """The difference: in base unit x ms, added up over all that differs, and in words."""

    lost: int = 0
    doubled: int = 0
    faults: list[str] = field(default_factory=list[str])

    @property
    def is_exact(self) -> bool:
        """Whether ledger and truth are equal to the last unit."""
        return not self.faults

    def note(self, where: str, true: int, said: int) -> None:
        """Two figures that should be equal."""
        self.lost += max(0, true - said)
        self.doubled += max(0, said - true)
        if true != said:
            self.faults.append(f"{where}: {said} instead of {true}")


def compare(truth: Truth, ledger: Ledger) -> Verdict:
    """Hold every layer of the ledger to the truth."""
    verdict = Verdict()
    for layer, said in ledger.layers.items():
        _compare_layer(layer, truth.amounts, said, verdict)
    return verdict


def _compare_layer(
    layer: str, true: Mapping[Key, Amount], said: Mapping[Key, Amount], verdict: Verdict
) -> None:
    for key in true.keys() | said.keys():
        where = f"{layer} of {'/'.join(key)}"
        if key not in true:
            verdict.faults.append(f"{where}: nobody had that")
        elif key not in said and layer == "bill":
            verdict.faults.append(f"{where}: is not there")
        had, has = true.get(key, Amount(0, 0, 0)), said.get(key, Amount(0, 0, 0))
        for name, known, figure in zip(Amount._fields, had, has, strict=True):
            if known is not None:
                verdict.note(f"{where}, {name}", known, figure or 0)
        assert has.used is not None
        assert has.effective is not None
        if has.effective < max(has.allocated, has.used):
            verdict.faults.append(f"{where}: less effective than allocated or used")


def compare_api(client: Client, truth: Truth, verdict: Verdict) -> None:
    """See that what administrators and users are shown are the same figures, correctly rounded."""
    usages = _by_key(_items(client, "/api/admin/v1/usages"))
    for (job_id, type_), amount in truth.amounts.items():
        items = usages.get((job_id, type_), [])
        for name, true in zip(Amount._fields, amount, strict=True):
            if true is None or len(items) > 1:  # rounded one by one they do not add up
                continue
            shown = sum(float(str(item[name])) for item in items)
            expected = money.usage(true, UNITS[ResourceType(type_)])
            if shown != expected:
                where = f"shown of {job_id}/{type_}, {name}"
                verdict.faults.append(f"{where}: {shown} instead of {expected}")
    bills = {str(item["id"]): item["usage"] for item in _items(client, "/api/Bills")}
    if bills != {str(item["id"]): item["usage"] for group in usages.values() for item in group}:
        verdict.faults.append("bills and usages differ")


def _items(client: Client, path: str) -> Iterable[Item]:
    status, _, body = client.get(path)
    assert status == 200, body
    return ITEMS.validate_python(body)


def _by_key(items: Iterable[Item]) -> dict[Key, list[Item]]:
    found: dict[Key, list[Item]] = {}
    for item in items:
        found.setdefault((str(item["jobId"]), str(item["type"])), []).append(item)
    return found
