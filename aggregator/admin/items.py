"""`nodemeter bills|usages|users|nodes`: what was metered, and what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

import typer

from aggregator.admin.choice import one_of
from aggregator.admin.client import Client, Record, records
from aggregator.admin.errors import UsageError
from aggregator.admin.explain import EXAMPLES, explain
from aggregator.admin.output import Column, Format, note, show
from aggregator.admin.session import examples, session_of
from aggregator.model import Method as BillingMethod
from aggregator.model import ResourceType
from aggregator.rating.month import MonthError, parse_month

app = typer.Typer()
bills_app = typer.Typer()
bills_app.command("explain", epilog=EXAMPLES)(explain)
app.add_typer(bills_app, name="bills")

User = Annotated[str | None, typer.Option(help="Name or id of a user")]
Type = Annotated[str | None, typer.Option("--type", help="cpu, mem, gpu, npu or storage")]
Job = Annotated[str | None, typer.Option(help="Name or id of a job")]
Vc = Annotated[str | None, typer.Option(help="Virtual cluster")]
Node = Annotated[str | None, typer.Option(help="Address of a node")]
Running = Annotated[
    bool | None, typer.Option("--running/--ended", help="Only jobs that run, or that do not")
]
Month = Annotated[
    str | None, typer.Option("--period", help="Only what counts in a month like 2026-10 (UTC)")
]

Method = Annotated[
    BillingMethod | None,
    typer.Option(help="Bill by this method instead of those in force at the time"),
]

_ITEM = (
    Column(title="START", field="startTime"),
    Column(title="END", field="endTime"),
    Column(title="JOB", field="job"),
    Column(title="USER", field="username"),
    Column(title="VC", field="vcName"),
    Column(title="NODE", field="node"),
    Column(title="TYPE", field="type"),
    Column(title="DEVICE", field="device"),
    Column(title="QUOTA", field="quota", is_number=True),
)
_RUNNING = Column(title="RUNS", field="isRunning")
_USAGE = Column(title="UNIT-HOURS", field="usage", is_number=True)
_BILLS = (*_ITEM, _USAGE, Column(title="FEE", field="fee", is_number=True), _RUNNING)
_USAGES = (*_ITEM, _USAGE, _RUNNING)
_DETAILS = (
    Column(title="START", field="startTime"),
    Column(title="JOB", field="job"),
    Column(title="USER", field="username"),
    Column(title="NODE", field="node"),
    Column(title="TYPE", field="type"),
    Column(title="QUOTA", field="quota", is_number=True),
    Column(title="UNIT", field="unit"),
    Column(title="ALLOCATED", field="allocated", is_number=True),
    Column(title="USED", field="used", is_number=True),
    Column(title="EFFECTIVE", field="effective", is_number=True),
    Column(title="BILLED", field="usage", is_number=True),
    Column(title="COVERAGE", field="coverage", is_number=True),
    _RUNNING,
)
_USERS = (Column(title="NAME", field="userName"), Column(title="ID", field="id"))
_NODES = (
    Column(title="NAME", field="name"),
    Column(title="CLUSTER", field="cluster"),
    Column(title="ADDRESS", field="address"),
    Column(title="ALIVE", field="isAlive"),
    Column(title="LAST SEEN", field="lastSeenAt"),
    Column(title="JOBS", field="liveJobs", is_number=True),
    Column(title="CPU m", field="cpuM", is_number=True),
    Column(title="MEM Mi", field="memMi", is_number=True),
    Column(title="DEVICES", field="deviceSummary"),
    Column(title="AGENT", field="agentVersion"),
)


@bills_app.callback(
    invoke_without_command=True,
    epilog=examples(
        "nodemeter bills --user alice",
        "nodemeter bills --type gpu --running",
        "nodemeter bills --period 2026-10",
        "nodemeter bills --method request",
        "nodemeter bills --output csv > bills.csv",
    ),
)
def bills(
    context: typer.Context,
    *,
    user: User = None,
    type_: Type = None,
    job: Job = None,
    vc: Vc = None,
    node: Node = None,
    running: Running = None,
    period: Month = None,
    method: Method = None,
) -> None:
    """Show usage and fee of every job, the newest first.

    --method shows what they would be by another billing method, at the prices of their time.

    Of a closed period the answer is for ever the same; without --period, what was told later or
    rated anew is in the figures of the job. How a fee came about is shown by `bills explain`.
    """
    if context.invoked_subcommand is not None:
        return
    session = session_of(context)
    which = _Which(
        user=user,
        type_=type_,
        job=job,
        vc=vc,
        node=node,
        running=running,
        period=period,
        method=method,
    )
    answer = session.client.get("/api/Bills", **which.parameters(session.client))
    _show(records(answer.body), _BILLS, session.output, which)
    unpriced = answer.headers.get("X-Unpriced-Items", "0")
    if unpriced != "0":
        note(f"{unpriced} of these have usage without a price: see `nodemeter ratios check`")


@app.command(
    "usages",
    epilog=examples(
        "nodemeter usages --type cpu",
        "nodemeter usages --detail --job train-1a2b",
        "nodemeter usages --method usage --period 2026-10",
    ),
)
def usages(
    context: typer.Context,
    *,
    user: User = None,
    type_: Type = None,
    job: Job = None,
    vc: Vc = None,
    node: Node = None,
    running: Running = None,
    period: Month = None,
    method: Method = None,
    detail: Annotated[
        bool, typer.Option("--detail", help="Allocated, used, effective and coverage, too")
    ] = False,
) -> None:
    """Show what every job used, the newest first.

    All in unit-hours: allocated is quota x time, effective the larger of allocated and used
    in each sampling interval; coverage is the part of the time that was really observed. What is
    billed of them says the type's method (`nodemeter methods`), or --method instead of it.
    """
    session = session_of(context)
    path = "/api/admin/v1/usages" if detail else "/api/Usages"
    which = _Which(
        user=user,
        type_=type_,
        job=job,
        vc=vc,
        node=node,
        running=running,
        period=period,
        method=method,
    )
    rows = session.client.get_list(path, **which.parameters(session.client))
    _show(rows, _DETAILS if detail else _USAGES, session.output, which)


@app.command(
    "users",
    epilog=examples(
        "nodemeter users",
        "nodemeter users --output csv",
    ),
)
def users(context: typer.Context) -> None:
    """Show the users whose jobs were metered."""
    session = session_of(context)
    rows = session.client.get_list("/api/Users")
    show(rows, _USERS, session.output)
    if not rows:
        note("no job of any user was metered yet")


@app.command(
    "nodes",
    epilog=examples(
        "nodemeter nodes",
        "nodemeter nodes --output json",
    ),
)
def nodes(context: typer.Context) -> None:
    """Show the nodes, and whether they report."""
    session = session_of(context)
    rows = session.client.get_list("/api/admin/v1/nodes")
    shown = [{**row, "deviceSummary": _summary(row)} for row in rows]
    show(shown, _NODES, session.output)
    if not rows:
        note("no agent has reported yet")


def user_id(client: Client, user: str) -> str:
    """The id of a user who is named by it or by a name that is no one else's."""
    try:
        return str(UUID(user))
    except ValueError:
        pass
    ids = [str(row["id"]) for row in client.get_list("/api/Users") if row["userName"] == user]
    if not ids:
        raise UsageError(f"no user is called {user!r}; `nodemeter users` lists all")
    if len(ids) > 1:
        raise UsageError(f"several users are called {user!r}; name one by id: {', '.join(ids)}")
    return ids[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Which:
    """Which items, as the options said it."""

    user: str | None
    type_: str | None
    job: str | None
    vc: str | None
    node: str | None
    running: bool | None
    period: str | None
    method: BillingMethod | None

    def parameters(self, client: Client) -> dict[str, str | None]:
        """The same as parameters of the API; a user's name is looked up."""
        return {
            "userId": None if self.user is None else user_id(client, self.user),
            "type": self.type_ and one_of(self.type_, ResourceType, "type"),
            "job": self.job,
            "vcName": self.vc,
            "node": self.node,
            "running": None if self.running is None else str(self.running).lower(),
            "method": self.method and self.method.value,
            **_bounds(self.period),
        }

    def said(self) -> str:
        """The options again."""
        state = {None: None, True: "--running", False: "--ended"}[self.running]
        named = {
            "--user": self.user,
            "--type": self.type_,
            "--job": self.job,
            "--vc": self.vc,
            "--node": self.node,
            "--period": self.period,
        }
        words = [f"{option} {value}" for option, value in named.items() if value is not None]
        return " ".join([*words, state] if state else words)


def _bounds(period: str | None) -> dict[str, str | None]:
    """The range of a period as parameters of the API."""
    if period is None:
        return {}
    try:
        month = parse_month(period)
    except MonthError as error:
        raise UsageError(f"--period {error}") from error
    return {
        "startTime": month.start.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "endTime": month.end.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _show(rows: Sequence[Record], columns: Sequence[Column], how: Format, which: _Which) -> None:
    """Print items; a table names each job by what `--job` takes."""
    if how is Format.TABLE:
        rows = [{**row, "job": _job(row)} for row in rows]
    show(rows, columns, how)
    if not rows:
        note(f"nothing matches {which.said()}" if which.said() else "nothing was metered yet")


def _job(row: Record) -> str:
    """The id, with the name unless it begins so, as what `exec` starts does."""
    job_id, name = str(row["jobId"]), str(row["jobName"] or "")
    return job_id if not name or job_id.startswith(name) else f"{name} ({job_id})"


def _summary(node: Record) -> str:
    """Devices by model, as `8 x NVIDIA H200`."""
    models = [str(each["model"]) for each in records(node["devices"])]
    return ", ".join(f"{models.count(model)} x {model}" for model in sorted(set(models)))
