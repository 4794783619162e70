"""What an hour cost: by virtual cluster, project, kind and job, as deep as was asked.

Money is summed exactly and not rounded here. How deep an answer goes follows from the
filters: projects where one virtual cluster or project was asked for, or where there is but
one virtual cluster; below them kinds and jobs where a project or a kind was asked for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import groupby
from typing import Final, TypeAlias

from aggregator.billing.database import Connection, Database, Parameters, rows_of
from aggregator.billing.item_lists import storable
from aggregator.billing.scope import Scope
from aggregator.model import ResourceType
from aggregator.rating import money
from aggregator.store.queries import query
from aggregator.units import UNITS

_LIST_HOUR_PROJECTS = query("list_hour_projects")
_LIST_HOUR_RESOURCES = query("list_hour_resources")
_IS_SEEN_VC = query("is_seen_vc")

HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Money in the base currency, exactly, by what it is for; `gpu` is of all devices."""

    cpu: Fraction = Fraction()
    memory: Fraction = Fraction()
    storage: Fraction = Fraction()
    gpu: Fraction = Fraction()

    @property
    def total(self) -> Fraction:
        """All of it."""
        return self.cpu + self.memory + self.storage + self.gpu

    def __add__(self, other: "Prices") -> "Prices":
        return Prices(
            cpu=self.cpu + other.cpu,
            memory=self.memory + other.memory,
            storage=self.storage + other.storage,
            gpu=self.gpu + other.gpu,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """A row's undivided amounts; None: there was no usage of the type."""

    cpu: Decimal | None
    mem: Decimal | None
    storage: Decimal | None
    gpu: Decimal | None
    npu: Decimal | None

    @property
    def prices(self) -> Prices:
        """The same as money."""
        return Prices(
            cpu=_exact(self.cpu, ResourceType.CPU),
            memory=_exact(self.mem, ResourceType.MEM),
            storage=_exact(self.storage, ResourceType.STORAGE),
            gpu=_exact(self.gpu, ResourceType.GPU) + _exact(self.npu, ResourceType.NPU),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPrices:
    """What a job cost."""

    job_id: str
    job_name: str
    prices: Prices


@dataclass(frozen=True, slots=True, kw_only=True)
class KindPrices:
    """What the jobs of a kind cost."""

    kind: str
    prices: Prices
    jobs: Sequence[JobPrices]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectPrices:
    """What a project cost; `kinds` None: nobody asked for them."""

    project: str
    prices: Prices
    kinds: Sequence[KindPrices] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VcPrices:
    """What a virtual cluster cost; `projects` None: nobody asked for them."""

    vc: str
    prices: Prices
    projects: Sequence[ProjectPrices] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HourAsked:
    """A question for a whole hour; None is any."""

    hour: datetime
    vc: str | None = None
    project: str | None = None
    kind: str | None = None

    @property
    def matches_nothing(self) -> bool:
        """Whether nothing can match, whatever the database holds."""
        texts = (self.vc, self.project, self.kind)
        return any(text is not None and not storable(text) for text in texts)

    def parameters(self, scope: Scope) -> Parameters:
        """The parameters of the queries that answer it."""
        return {
            "starts_at": self.hour,
            "ends_at": self.hour + HOUR,
            "vc": self.vc,
            "project": self.project,
            "kind": self.kind,
            **scope.parameters(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _ProjectRow(Amounts):
    vc: str
    project: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _JobRow(_ProjectRow):
    kind: str
    job_id: str
    job_name: str


_Kinds: TypeAlias = Mapping[tuple[str, str], Sequence[KindPrices]]
"""By virtual cluster and project."""


async def list_vc_prices(database: Database, asked: HourAsked, scope: Scope) -> Sequence[VcPrices]:
    """What the hour cost each virtual cluster with usage in it, by name; all of one snapshot."""
    if asked.matches_nothing:
        return ()
    parameters = asked.parameters(scope)
    async with database.reading() as connection:
        rows = await rows_of(connection, _LIST_HOUR_PROJECTS, parameters, _ProjectRow)
        by_vc = [(vc, list(group)) for vc, group in groupby(rows, key=lambda row: row.vc)]
        if asked.vc is None and asked.project is None and len(by_vc) > 1:
            return [VcPrices(vc=vc, prices=_sum(of_it), projects=None) for vc, of_it in by_vc]
        kinds = await _kinds(connection, asked, parameters)
    return [_in_detail(vc, of_it, kinds) for vc, of_it in by_vc]


def _in_detail(vc: str, rows: Sequence[_ProjectRow], kinds: _Kinds | None) -> VcPrices:
    """A virtual cluster with its projects, and with what is below them if that was asked for."""
    projects = [
        ProjectPrices(
            project=row.project,
            prices=row.prices,
            kinds=None if kinds is None else kinds[vc, row.project],
        )
        for row in rows
    ]
    return VcPrices(vc=vc, prices=_sum(rows), projects=projects)


async def vc_exists(database: Database, vc: str, scope: Scope) -> bool:
    """Whether a virtual cluster is there for the scope: its own, or one with a job within it."""
    if not storable(vc):
        return False
    if vc == scope.vc:
        return True
    async with database.reading() as connection:
        cursor = await connection.execute(_IS_SEEN_VC, {"vc": vc, **scope.parameters()})
        row = await cursor.fetchone()
    return bool(row and row[0])


async def _kinds(connection: Connection, asked: HourAsked, parameters: Parameters) -> _Kinds | None:
    """The kinds of each virtual cluster's projects; None: nobody asked for them."""
    if asked.project is None and asked.kind is None:
        return None
    rows = await rows_of(connection, _LIST_HOUR_RESOURCES, parameters, _JobRow, prepare=False)
    found: dict[tuple[str, str], list[KindPrices]] = {}
    for (vc, project, kind), group in groupby(rows, lambda row: (row.vc, row.project, row.kind)):
        jobs = [
            JobPrices(job_id=row.job_id, job_name=row.job_name, prices=row.prices) for row in group
        ]
        total = sum((job.prices for job in jobs), Prices())
        found.setdefault((vc, project), []).append(KindPrices(kind=kind, prices=total, jobs=jobs))
    return found


def _sum(rows: Iterable[Amounts]) -> Prices:
    return sum((row.prices for row in rows), Prices())


def _exact(amount: Decimal | None, type_: ResourceType) -> Fraction:
    return Fraction() if amount is None else money.exact_fee(amount, UNITS[type_])
