"""The product's processes, each started, killed and stopped by itself, with proxies between.

    agents, streamers ── link ── aggregator ── database_link ── TimescaleDB

`Rig` puts them together. The database is one of a server that the caller owns; all else is
the rig's and ends with it. Call it in the main thread.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import LiteralString, Self
from urllib.parse import parse_qs, urlsplit, urlunsplit

import psycopg
from psycopg import sql

from aggregator.clock import to_ms, utc_now
from aggregator.quickstart.supervise import Child
from aggregator.store.embedded import Server
from aggregator.store.migrate import migrate
from tests.acceptance.product import CHECKOUT, Client, clean_environment, free_port, until
from tests.faults.content import Recipe
from tests.faults.jobs import Cgroups, Workload
from tests.faults.proxy import Proxy
from tests.faults.streamer import Orders, save
from tests.faults.traffic import Traffic
from tests.faults.truth import Amount, Ledger, Truth, Verdict, compare, read_ledger
from tests.faults.wiretap import GrpcTap, PostgresTap

_STREAMER = Path(__file__).with_name("streamer.py")
_FIGURES = "agent.prom"
_UNACKED = "nodemeter_agent_unacked_frames"
_READY_SECONDS = 60.0
_STOP_SECONDS = 30.0


@dataclass(kw_only=True)
class Process:
    """One of the product's processes; `kills` counts what a test did to it."""

    child: Child
    kills: int = 0

    @property
    def name(self) -> str:
        """What it is called in reports."""
        return self.child.name

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self.child.process is not None
        return self.child.process.pid

    def start(self) -> None:
        """Start it; it may take a moment until it works."""
        self.child.start()

    def kill(self) -> None:
        """Kill -9, and see it gone."""
        assert self.child.process is not None
        assert self.child.is_running(), f"{self.name} had ended:\n{self.child.said()}"
        self.child.process.kill()
        self.child.process.wait()
        self.kills += 1

    def stop(self) -> int:
        """Ask it to end; its exit status."""
        assert self.child.process is not None
        self.child.process.terminate()
        return self.child.process.wait(_STOP_SECONDS)


@dataclass(kw_only=True)
class Aggregator(Process, Client):
    """The aggregator, behind `link`."""

    def start(self) -> None:
        """Start it and wait until it serves."""
        super().start()
        assert self.child.wait_ready(_READY_SECONDS), self.child.said()


@dataclass(kw_only=True)
class Agent(Process):
    """A real agent with jobs of its own."""

    folder: Path
    workload: Workload
    is_asked: bool = False

    @property
    def truth(self) -> Truth:
        """What its jobs had that are over."""
        return self.workload.truth

    def is_told(self) -> bool:
        """Whether it has recorded every end, the files of ended jobs are gone, and all is acked."""
        if any(self.workload.jobs_dir.glob("*.json")):
            return False
        figures = self.folder / _FIGURES
        if not self.is_asked:
            self.is_asked = True
            figures.unlink(missing_ok=True)  # what it says from now on is news
        return figures.exists() and f"\n{_UNACKED} 0\n" in figures.read_text()


@dataclass(kw_only=True)
class Streamer(Process):
    """A node that only sends; see `streamer`."""

    folder: Path
    recipe: Recipe

    @property
    def told(self) -> int:
        """How many frames it has told."""
        path = self.folder / "told"
        return int(path.read_text()) if path.exists() else 0

    def finish_at(self, job: int) -> None:
        """Let that job be its last."""
        new = self.folder / "goal.new"
        new.write_text(str(job))
        new.rename(self.folder / "goal")

    def is_told(self) -> bool:
        """Whether all that it has to tell is acked to it."""
        return (self.folder / "done").exists()

    @property
    def truth(self) -> Truth:
        """What its jobs had, through the last one."""
        truth = Truth()
        for number in range(1, int((self.folder / "goal").read_text()) + 1):
            job = self.recipe.job(number)
            for index, (type_, _) in enumerate(job.quotas):
                pieces = [piece for piece in job.pieces if piece.meter == index]
                sums = (
                    sum(piece.allocated for piece in pieces),
                    sum(piece.used for piece in pieces),
                    sum(piece.effective for piece in pieces),
                )
                truth.add(job.job_id, type_, Amount(*sums))
        return truth


@dataclass(kw_only=True)
class Database:
    """A database of the rig's own; `kill` ends the whole server as a crash does."""

    server: Server
    database: str
    name: str = "PostgreSQL"
    kills: int = 0

    @property
    def url(self) -> str:
        """How to connect, past the proxy."""
        return self.server.url_of(self.database)

    def url_at(self, port: int) -> str:
        """How to connect by a loopback port that leads there, in plain text."""
        parts = urlsplit(self.url)
        login = parts.netloc.rpartition("@")[0]
        query = "sslmode=disable&gssencmode=disable"
        return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{port}", query=query))

    @property
    def port(self) -> int:
        """Where the server listens."""
        return int(parse_qs(urlsplit(self.url).query)["port"][0])

    def create(self) -> None:
        """Make it, with the newest schema."""
        self._administer("CREATE DATABASE {}", self.database)
        migrate(self.url)

    def drop(self) -> None:
        """Remove it."""
        self._administer("DROP DATABASE {} WITH (FORCE)", self.database)

    def copy_to(self, suffix: str) -> None:
        """Make a copy of it as it is; nobody may be connected."""
        self._administer("CREATE DATABASE {0} TEMPLATE {1}", self._named(suffix), self.database)

    def restore_from(self, suffix: str) -> None:
        """Put the copy in its place."""
        self.drop()
        self._administer("ALTER DATABASE {0} RENAME TO {1}", self._named(suffix), self.database)

    def _named(self, suffix: str) -> str:
        return f"{self.database}_{suffix}"

    def kill(self) -> None:
        """Kill -9 of the server's first process; the others follow it."""
        self.server.kill()
        self.kills += 1

    def start(self) -> None:
        """Start the server again and wait until it accepts connections."""
        self.server.start()

    def execute(self, statement: str) -> Sequence[tuple[object, ...]]:
        """Run one statement past the proxy; its rows, if it gives any."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _administer(self, statement: LiteralString, *names: str) -> None:
        query = sql.SQL(statement).format(*map(sql.Identifier, names))
        with psycopg.connect(self.server.url_of("postgres"), autocommit=True) as connection:
            connection.execute(query)


class Rig:
    """See the module."""

    def __init__(
        self,
        server: Server,
        folder: Path,
        *,
        seed: int = 1,
        agents: int = 0,
        streamers: int = 0,
        interval_seconds: float = 0.05,
        gpus: int = 1,
        aggregator_settings: Mapping[str, str] | None = None,
        agent_settings: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare everything; `start` starts it."""
        self.folder, self.seed = folder, seed
        self.traffic = Traffic()
        self.base_ms = to_ms(utc_now() - timedelta(hours=3))
        self.database = Database(server=server, database=f"faults_{os.urandom(4).hex()}")
        self._interval_seconds, self._gpus = interval_seconds, gpus
        self._counts = (agents, streamers)
        self._aggregator_settings = dict(aggregator_settings or {})
        self._agent_settings = dict(agent_settings or {})
        self._stack = ExitStack()
        self.agents: list[Agent] = []
        self.streamers: list[Streamer] = []

    def __enter__(self) -> Self:
        """Make and start everything."""
        with self._stack:
            self._build()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _build(self) -> None:
        self.database.create()
        self._stack.callback(self.database.drop)
        self.database_link = self._stack.enter_context(Proxy(self.database.port, PostgresTap))
        grpc_port = free_port()
        self.link = self._stack.enter_context(Proxy(grpc_port, lambda: GrpcTap(self.traffic)))
        self.aggregator = self._make_aggregator(grpc_port)
        self._begin(self.aggregator)
        agents, streamers = self._counts
        for number in range(1, streamers + 1):
            self.add_streamer(f"streamer{number}")
        for number in range(1, agents + 1):
            self.add_agent(f"agent{number}")

    def _begin(self, process: Process) -> None:
        self._stack.callback(process.child.stop)
        process.start()

    @property
    def nodes(self) -> Sequence[Agent | Streamer]:
        """All that send."""
        return [*self.agents, *self.streamers]

    # Processes ---------------------------------------------------------------------------

    def _make_aggregator(self, grpc_port: int) -> Aggregator:
        http_port = free_port()
        env = clean_environment() | {
            "NODEMETER_AGGREGATOR_CONFIG": os.devnull,
            "NODEMETER_DATABASE_URL": self.database.url_at(self.database_link.port),
            "NODEMETER_HTTP_PORT": str(http_port),
            "NODEMETER_GRPC_PORT": str(grpc_port),
            "NODEMETER_RATER_INTERVAL_SECONDS": "0.2",
            "NODEMETER_INGEST_RETRY_AFTER_SECONDS": "0.1",
            **self._aggregator_settings,
        }
        command = [sys.executable, "-m", "aggregator", "serve"]
        return Aggregator(
            child=self._child("aggregator", command, env),
            http_port=http_port,
            grpc_port=grpc_port,
            env=env,
        )

    def add_agent(self, node: str, settings: Mapping[str, str] | None = None) -> Agent:
        """Start another real agent, with jobs that begin when its workload is started."""
        folder = self.folder / node
        cgroups = Cgroups(folder / "cgroup")
        workload = Workload(
            node=node, seed=self.seed, jobs_dir=folder / "jobs.d", cgroups=cgroups, clock=utc_now
        )
        env = clean_environment() | {
            "NODEMETER_AGENT_CONFIG": os.devnull,
            "NODEMETER_NODE_NAME": node,
            "NODEMETER_NODE_CLUSTER": "faults",
            "NODEMETER_AGENT_STATE_DIR": str(folder / "state"),
            "NODEMETER_AGENT_SAMPLE_INTERVAL_SECONDS": "1",
            "NODEMETER_JOBS_DIR": str(workload.jobs_dir),
            "NODEMETER_JOBS_PROVIDERS": "files",
            "NODEMETER_METRICS_TEXTFILE": str(folder / _FIGURES),
            "NODEMETER_CGROUP_ROOT": str(cgroups.root),
            "NODEMETER_UPLINK_TARGET": f"127.0.0.1:{self.link.port}",
            **self._agent_settings,
            **(settings or {}),
        }
        child = self._child(node, [sys.executable, "-m", "agent", "run"], env)
        agent = Agent(child=child, folder=folder, workload=workload)
        self.agents.append(agent)
        self._begin(agent)
        self._stack.callback(workload.stop)
        return agent

    def add_streamer(self, node: str) -> Streamer:
        """Start another node that only sends, which begins at once."""
        folder = self.folder / node
        recipe = Recipe(seed=self.seed, node=node, base_ms=self.base_ms, gpus=self._gpus)
        target = f"127.0.0.1:{self.link.port}"
        orders = Orders(recipe=recipe, target=target, interval_seconds=self._interval_seconds)
        save(orders, folder)
        command = [sys.executable, str(_STREAMER), str(folder)]
        env = clean_environment() | {"PYTHONPATH": str(CHECKOUT)}
        streamer = Streamer(child=self._child(node, command, env), folder=folder, recipe=recipe)
        self.streamers.append(streamer)
        self._begin(streamer)
        return streamer

    def _child(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> Child:
        environment = {"PYTHONPATH": str(CHECKOUT), **env}
        return Child(
            name=name, command=command, environment=environment, log=self.folder / f"{name}.log"
        )

    # The end -----------------------------------------------------------------------------

    def finish(self, seconds: float = 120) -> None:
        """Let every node tell the rest, and wait until all of it is stored and rated."""
        for agent in self.agents:
            agent.workload.stop()
        for streamer in self.streamers:
            streamer.finish_at(streamer.told + 20)
        for node in self.nodes:
            until(f"{node.name} to have told all", node.is_told, seconds=seconds)
        for agent in self.agents:
            agent.stop()
        until("all to be rated", lambda: self.ledger().unrated == 0, seconds=seconds)

    def ledger(self) -> Ledger:
        """What the database says now."""
        return read_ledger(self.database.url)

    def truth(self) -> Truth:
        """What every job of every node had, once they are `finish`ed."""
        truth = Truth()
        for node in self.nodes:
            truth.join(node.truth)
        return truth

    def verdict(self) -> Verdict:
        """The ledger beside the truth."""
        return compare(self.truth(), self.ledger())
