"""The daemon as it runs: what it hears, how it waits and ends, and what it shows."""

import errno
import os
import signal
import socket
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.cgroups import Hierarchies
from agent.clock import AgentClock, SystemTime
from agent.daemon import Daemon
from agent.daemon.counters import DaemonCounters
from agent.daemon.schedule import Look
from agent.daemon.sources import Sources
from agent.errors import AgentError, SpoolError
from agent.model import Device, DeviceShare, ResourceType
from agent.notify import Notifier, Watcher
from agent.procfs import ProcFs
from agent.samplers.host import HostCapacity, HostReader
from agent.spool import Spool
from agent.uplink import Uplink
from agent.uplink.terms import Pace
from tests.unit.agent.aggregators import Aggregator, serving
from tests.unit.agent.daemon.bench import HOUR_MS, MS, Bench, batches_in, open_spool, settings_of
from tests.unit.agent.fakes import FakeLink, FakeProvider, FakeSampler
from tests.unit.agent.nodes import MEM, TEN_S, job, total
from tests.unit.agent.test_uplink_session import IDENTITY


@contextmanager
def running(daemon: Daemon) -> Generator[threading.Thread]:
    """Run the daemon on a thread until the end of the block."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            daemon.run()
        except BaseException as error:  # noqa: BLE001  it is raised again below
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        daemon.stop()
        thread.join(30)
        assert not thread.is_alive()
    for error in failures:
        raise error


def real_daemon(
    tmp_path: Path,
    provider: FakeProvider,
    link: FakeLink | Uplink,
    spool: Spool,
    sampler: FakeSampler | None = None,
) -> Daemon:
    return Daemon(
        settings=settings_of(tmp_path),
        clock=AgentClock(SystemTime()),
        providers=[provider],
        samplers=[sampler or FakeSampler()],
        spool=spool,
        uplink=link,
        notifier=Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}),
        watcher=Watcher(),
        cpu_model=None,
    )


def asked(provider: FakeProvider, times: int) -> None:
    with provider.asked:
        assert provider.asked.wait_for(lambda: provider.times_asked >= times, 30)


def test_an_event_is_noticed_long_before_the_next_deadline(tmp_path: Path) -> None:
    """A file in the jobs directory: the daemon looks at once; it tells the service manager."""
    jobs = tmp_path / "jobs.d"
    provider = FakeProvider(watched=jobs)
    jobs.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        daemon = real_daemon(tmp_path, provider, FakeLink(), open_spool(tmp_path / "spool"))
        with running(daemon):
            asked(provider, 1)
            (jobs / "a.json").write_text("{}")
            asked(provider, 2)
        heard = [manager.recv(100)]
        while heard[-1] != b"STOPPING=1":
            heard.append(manager.recv(100))
    assert heard[0] == b"READY=1"
    assert set(heard[1:-1]) == {b"WATCHDOG=1"}


def test_a_lost_stream_wakes_the_daemon(tmp_path: Path) -> None:
    """The uplink waits for another stream; it does not wait for the next deadline."""
    link, provider = FakeLink(), FakeProvider()
    spool = open_spool(tmp_path / "spool")
    old = spool.stream_id
    daemon = real_daemon(tmp_path, provider, link, spool)
    with running(daemon):
        asked(provider, 1)
        daemon.wake()  # for nothing
        link.lost_stream = "fenced"
        daemon.wake()
        asked(provider, 2)
    assert link.calls == ["start", "resume", "stop 3"]
    assert spool.stream_id != old


def test_a_signal_ends_it_in_good_order(tmp_path: Path) -> None:
    """SIGTERM: everything is recorded, the spool is closed, `run` returns."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    now_ms = SystemTime().wall_ns() // MS
    provider, sampler = FakeProvider(), FakeSampler()
    provider.has(job(started_at_ms=now_ms - 5_000))
    sampler.cpu[job().key] = sampler.mem[job().key] = 1
    spool = open_spool(tmp_path / "spool")
    daemon = real_daemon(tmp_path, provider, FakeLink(), spool, sampler)

    def end_soon() -> None:
        asked(provider, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=end_soon)
    killer.start()
    try:
        daemon.run()
    finally:
        killer.join()
        for number, handler in before.items():
            signal.signal(number, handler)
    again = open_spool(tmp_path / "spool")
    told = batches_in(again)
    again.close()
    assert sum(length_ms for batch in told for length_ms in batch.records.length_ms) >= 2 * 5_000
    assert not told[-1].run_ends


def test_a_disk_that_fails_ends_the_loop_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error reaches the caller; uplink and spool are let go."""
    link, provider = FakeLink(), FakeProvider()
    provider.has(job(started_at_ms=SystemTime().wall_ns() // MS))
    spool = open_spool(tmp_path / "spool")
    daemon = real_daemon(tmp_path, provider, link, spool)

    def broken(_fd: int) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(SpoolError, match="broken"), running(daemon) as thread:
            thread.join(30)
    assert link.calls == ["start", "stop 3"]
    daemon.close()  # once more does no harm
    open_spool(tmp_path / "spool").close()


def test_it_waits_where_there_are_no_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without inotify the deadlines do."""
    provider = FakeProvider()
    monkeypatch.setattr(Watcher, "available", property(lambda _self: False))
    daemon = real_daemon(tmp_path, provider, FakeLink(), open_spool(tmp_path / "spool"))
    with running(daemon):
        asked(provider, 1)
        daemon.wake()
    assert provider.times_asked >= 2, "the last look is at the end"


def test_from_job_to_aggregator(tmp_path: Path) -> None:
    """Daemon, spool and uplink together: start, end and usage arrive within the test."""
    jobs = tmp_path / "jobs.d"
    jobs.mkdir()
    provider = FakeProvider(watched=jobs)
    spool = open_spool(tmp_path / "spool")
    now_ms = SystemTime().wall_ns() // MS
    with serving(Aggregator()) as there:
        uplink = Uplink(f"127.0.0.1:{there.port}", IDENTITY, spool, pace=Pace(base_seconds=0.01))
        daemon = real_daemon(tmp_path, provider, uplink, spool)
        uplink.on_stream_lost = daemon.wake
        with running(daemon):
            asked(provider, 1)
            provider.has(job(started_at_ms=now_ms))
            (jobs / "a").touch()
            there.until(lambda: any(batch.runs for batch in there.batches))
            provider.has(job(started_at_ms=now_ms, ended_at_ms=now_ms + 40, cpu_usec=33))
            (jobs / "a").unlink()
            there.until(lambda: any(batch.run_ends for batch in there.batches))
    told = [batch.records for batch in there.batches]
    assert sum(used for records in told for used in records.used) == 33
    assert sum(length_ms for records in told for length_ms in records.length_ms) == 2 * 40
    assert spool.acked_through == spool.last_sequence == there.acked_through


class FakeDevices(FakeSampler):
    """A driver that knows two GPUs."""

    def __init__(self) -> None:
        super().__init__()
        self.must_restart = False
        self.known: Sequence[Device] = [
            Device(type=ResourceType.GPU, id=f"GPU-{at}", model="H200", names=frozenset({str(at)}))
            for at in range(2)
        ]

    def devices(self) -> Sequence[Device]:
        """See `DeviceSampler`."""
        return self.known


def test_devices_have_their_uuid_and_the_books_are_kept(tmp_path: Path) -> None:
    """A job that names GPU 0 is billed for its uuid; the other one is idle; Hello names both."""
    capacity = HostCapacity(cpu_m=4_000, mem_kib=1 << 20, cpu_model="EPYC")
    host = HostReader(Hierarchies(None, {}), "/proc", capacity)
    bench = Bench(tmp_path, sampler=FakeDevices(), host=host)
    share = DeviceShare(type=ResourceType.GPU, id="0", model=None)
    bench.provider.has(job(devices=[share]))
    for _ in range(24):
        bench.look()
    batches = batches_in(bench.spool)
    bench.finish()
    meters = [meter for batch in batches for meter in batch.meters]
    kinds = {
        meter.number: run.kind
        for batch in batches
        for meter in batch.meters
        for run in batch.runs
        if run.number == meter.run
    }
    gpus = {(kinds[m.number], m.device, m.model) for m in meters if m.type == "gpu"}
    assert gpus == {
        ("job", "GPU-0", "H200"),
        ("capacity", "GPU-0", "H200"),
        ("capacity", "GPU-1", "H200"),
        ("idle", "GPU-1", "H200"),
    }
    assert {"capacity", "idle", "unattributed"} <= set(kinds.values())
    assert [device.id for device in bench.link.devices] == ["GPU-0", "GPU-1"]


def test_a_job_of_two_seconds_has_its_memory(tmp_path: Path) -> None:
    """It is looked at when it starts, and every second while it is young."""
    bench = Bench(tmp_path)
    bench.look()
    run = replace(job(mem_kib=0), started_at_ms=bench.time.wall // MS)
    bench.provider.has(run)
    for mem_kib in (100, 300, 500):
        bench.sampler.mem[run.key] = mem_kib
        bench.look(1_000, Look.EVENT)
    bench.provider.has(replace(run, ended_at_ms=bench.time.wall // MS))
    bench.look(100, Look.EVENT)
    (record,) = bench.records(MEM)
    assert record.observed_ms == record.length_ms == 3_000
    assert record.used == (100 + 200 + 400) * 1_000


def test_an_old_job_is_read_at_the_deadlines_alone(tmp_path: Path) -> None:
    """An event of another one costs nothing for it."""
    bench = Bench(tmp_path)
    bench.provider.has(job())
    bench.look()
    bench.look(2 * TEN_S)
    bench.sampler.sampled.clear()
    bench.look(1_000, Look.EVENT)
    assert bench.sampler.sampled == []


def test_the_usage_of_a_month_is_told_in_many_looks(tmp_path: Path) -> None:
    """Nobody waits for it: not the other jobs, nor who asks us to end; nothing is lost."""
    bench = Bench(tmp_path)
    bench.look()
    now_ms = bench.time.wall // MS
    many = [DeviceShare(type=ResourceType.GPU, id=f"GPU-{at}", model="H200") for at in range(16)]
    run = job(devices=many, started_at_ms=now_ms - 30 * 24 * HOUR_MS)
    bench.provider.has(run)
    bench.look(70_000)
    frames = bench.spool.last_sequence
    assert 20 <= frames <= 21
    bench.daemon.finish()
    bench.kill()
    ended_at_ms = bench.time.wall // MS
    bench.provider.has(replace(run, ended_at_ms=ended_at_ms))
    before = -1
    while bench.spool.last_sequence != before:
        before = bench.spool.last_sequence
        bench.look(1_000, Look.EVENT)
    assert before > 60  # 43,200 minutes of 16 devices and more, 10,000 a frame
    records = bench.records(ResourceType.GPU)
    assert total(records, "allocated") == 16 * 126_000 * (ended_at_ms - run.started_at_ms)


def test_what_nobody_foresaw_in_a_provider_does_not_end_the_metering(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its runs stay as they were, and the log says where it was, once."""
    bench = Bench(tmp_path)
    bench.provider.has(job())
    bench.look()
    bench.provider.error = RecursionError("too deep")
    bench.look()
    bench.look()
    assert bench.daemon.counters.provider_failures["files"] == 2
    unforeseen = [one for one in caplog.records if one.message == "an unforeseen failure"]
    assert len(unforeseen) == 1
    assert unforeseen[0].exc_info
    assert list(bench.daemon.state.live)


def test_a_driver_that_was_replaced_asks_for_a_new_process(tmp_path: Path) -> None:
    """The agent records everything and ends as a failure, so that it is started anew."""
    sampler = FakeDevices()
    bench = Bench(tmp_path, sampler=sampler)
    bench.provider.has(job())
    bench.look()
    sampler.must_restart = True
    with pytest.raises(AgentError, match="the driver of the fake sampler was replaced"):
        bench.daemon.run()
    assert bench.link.calls[-1] == "stop 3"


def test_the_agent_s_figures_are_in_a_file(tmp_path: Path) -> None:
    """Whole after each full look, and true: a failing provider shows with the age of its word."""
    path = tmp_path / "nodemeter.prom"
    bench = Bench(tmp_path, sampler=FakeDevices(), textfile=path)
    bench.provider.has(job())
    bench.look()
    bench.provider.fails = True
    bench.look()
    lines = path.read_text().splitlines()
    assert 'nodemeter_agent_source_up{kind="provider",source="files"} 0' in lines
    assert 'nodemeter_agent_source_age_seconds{kind="provider",source="files"} 10' in lines
    assert 'nodemeter_agent_source_failures_total{kind="provider",source="files"} 1' in lines
    assert 'nodemeter_agent_runs{provider="files"} 1' in lines
    assert 'nodemeter_agent_device_up{device="GPU-0",model="H200",type="gpu"} 1' in lines
    assert list(tmp_path.glob("*.tmp")) == []
    families = list(text_string_to_metric_families(path.read_text()))
    assert len(families) == 13


def test_a_place_that_takes_no_figures_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And the metering goes on."""
    bench = Bench(tmp_path, textfile=tmp_path / "missing" / "nodemeter.prom")
    bench.look()
    bench.look()
    assert len([one for one in caplog.records if "cannot be written" in one.message]) == 1


def sources_of(bench: Bench, *providers: FakeProvider, patience_ms: int = 60_000) -> Sources:
    clock = AgentClock(bench.time)
    return Sources(
        providers,
        [],
        DaemonCounters(),
        now_ms=clock.now_ms,
        procfs=ProcFs(),
        patience_ms=patience_ms,
    )


def test_a_new_run_waits_for_the_word_of_who_is_trusted_more(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """After a restart a scheduler may need its time to say that the run is its own."""
    slurm, files = FakeProvider("slurm"), FakeProvider("files")
    files.has(job())
    slurm.fails = True
    sources = sources_of(bench, slurm, files)
    assert sources.runs() == {"slurm": None, "files": []}
    assert sources.runs({job().key}) == {"slurm": None, "files": [job()]}
    slurm.fails = False
    slurm.has(job("1", provider="slurm", cgroup=job().cgroup))
    assert sources.runs()["files"] == []
    assert sources.runs()["files"] == []
    assert list(sources.refused) == [job().key]
    told = [one for one in caplog.records if one.message == "a run is not metered by itself"]
    assert len(told) == 1


def test_a_run_in_a_job_that_is_not_described_yet_is_not_metered_beside_it(bench: Bench) -> None:
    """The scheduler answers, and knows already that the cgroup is its own."""
    slurm, files = FakeProvider("slurm"), FakeProvider("files")
    files.has(job())
    slurm.to_come = [str(job().cgroup)]
    sources = sources_of(bench, slurm, files)
    assert sources.runs() == {"slurm": [], "files": []}
    assert list(sources.refused) == [job().key]


def test_it_does_not_wait_for_ever(bench: Bench) -> None:
    """A scheduler that never answers must not keep others from being billed."""
    slurm, files = FakeProvider("slurm"), FakeProvider("files")
    files.has(job())
    slurm.fails = True
    sources = sources_of(bench, slurm, files)
    bench.time.pass_ms(60_000)
    assert sources.runs() == {"slurm": None, "files": [job()]}
