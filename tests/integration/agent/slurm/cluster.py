"""A cluster of one node: Debian's munged, slurmctld and slurmd, on loopback, with real cgroups."""

import os
import secrets
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpuacct", "memory", "cpuset", "freezer")
USER = "nobody"

_SLURM_CONF = """\
ClusterName=meter
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={base}/munge/socket,cred_expire=5
PluginDir={plugins}
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd.pid
SlurmctldLogFile={base}/slurmctld.log
SlurmdLogFile={base}/slurmd.log
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/{accounting}
JobAcctGatherFrequency=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
PrologFlags=Contain
ReturnToService=2
KillWait=1
SchedulerParameters=sched_interval=1,bf_interval=1
GresTypes=gpu,shard
NodeName={node} NodeAddr=127.0.0.1 NodeHostname={host} CPUs={cpus} RealMemory=500 Gres=gpu:2,shard:8
PartitionName=main Nodes={node} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""
_CGROUP_CONF = """\
CgroupPlugin=cgroup/v1
CgroupAutomount=no
ConstrainCores=yes
ConstrainRAMSpace=yes
"""
_GRES_CONF = """\
Name=gpu File={base}/dev/nvidia[0-1]
Name=shard Count=8
"""


class Cluster:
    """Its daemons run until `stop`; `node` is a name that nobody else has.

    `accounting` cgroup = jobs have cgroups that count CPU time; none = they have others only.
    """

    def __init__(self, software: Path, base: Path, accounting: str = "cgroup") -> None:
        self.base = base
        self.node = f"meter{secrets.token_hex(3)}"
        self._software = software
        self._daemons: list[subprocess.Popen[bytes]] = []
        libraries = next((software / "usr/lib").glob("*-linux-*"))
        self.environ = {
            "PATH": f"{software}/usr/bin:{software}/usr/sbin:/usr/bin:/bin",
            "LD_LIBRARY_PATH": f"{libraries}:{libraries}/slurm-wlm",
            "SLURM_CONF": f"{base}/slurm.conf",
        }
        self._configure(libraries / "slurm-wlm", accounting)

    def start(self) -> None:
        """Start the daemons, and wait until the node is idle."""
        munge, base = self.base / "munge", self.base
        files = ("socket", "pid-file", "log-file", "seed-file", "key-file")
        paths = ("socket", "pid", "log", "seed", "key")
        options = [f"--{name}={munge}/{path}" for name, path in zip(files, paths, strict=True)]
        self._daemon("munged", "--foreground", "--force", *options)
        self.wait((munge / "socket").exists)
        self._daemon("slurmctld", "-D", "-c", "-f", f"{base}/slurm.conf")
        stepd = f"{self._software}/usr/sbin/slurmstepd"
        self._daemon("slurmd", "-D", "-N", self.node, "-f", f"{base}/slurm.conf", "-d", stepd)
        self.wait(lambda: self.call("sinfo", "-h", "-o", "%t", check=False).strip() == "idle")

    def stop(self) -> None:
        """End the jobs and the daemons, and remove the cgroups that they made."""
        with suppress(AssertionError, OSError, subprocess.TimeoutExpired):
            self.call("scancel", f"--user={USER}", check=False)
            self.wait(lambda: not self._has_jobs(), seconds=15)
        for daemon in reversed(self._daemons):  # Slurm's talk by munged to the end
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._remove_cgroups()

    def call(self, program: str, *arguments: str, check: bool = True) -> str:
        """Run one of Slurm's commands."""
        done = subprocess.run(
            [program, *arguments],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stdout + self.logs()
        return done.stdout

    def submit(self, *options: str, script: str = "sleep 600") -> str:
        """Submit a job of the user's; returns its number."""
        fixed = (f"--uid={USER}", "--gid=nogroup", "--chdir=/", "--output=/dev/null", "--parsable")
        return self.call("sbatch", *fixed, *options, f"--wrap={script}").strip()

    def script(self, name: str) -> str:
        """One of Slurm's commands as a program that finds its libraries."""
        path = self.base / name
        settings = " ".join(f"{key}={value}" for key, value in self.environ.items())
        path.write_text(f'#!/bin/sh\necho "$@" >> {path}.calls\nexec env {settings} {name} "$@"\n')
        path.chmod(0o755)
        return str(path)

    def wait(self, condition: Callable[[], object], seconds: float = 30) -> None:
        """Poll until the condition holds; the daemons' logs say why it does not."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.02)

    def logs(self) -> str:
        """The end of what the daemons wrote."""
        logs = (self.base / f"{name}.log" for name in ("slurmctld", "slurmd"))
        texts = (log.read_text(errors="replace")[-2000:] for log in logs if log.exists())
        return "\n".join(texts)

    def _configure(self, plugins: Path, accounting: str) -> None:
        base = self.base
        for name in ("munge", "state", "spool", "dev"):
            (base / name).mkdir(mode=0o755)
        key = base / "munge/key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        for number in range(2):
            os.mknod(base / f"dev/nvidia{number}", 0o644 | stat.S_IFCHR, os.makedev(1, 3))
        ports = free_ports(2)
        text = _SLURM_CONF.format(
            host=os.uname().nodename.partition(".")[0],
            ctld_port=ports[0],
            slurmd_port=ports[1],
            base=base,
            plugins=plugins,
            accounting=accounting,
            node=self.node,
            cpus=os.cpu_count(),
        )
        (base / "slurm.conf").write_text(text)
        (base / "cgroup.conf").write_text(_CGROUP_CONF)
        (base / "gres.conf").write_text(_GRES_CONF.format(base=base))

    def _daemon(self, name: str, *arguments: str) -> None:
        with (self.base / f"{name}.out").open("wb") as out:
            command = [f"{self._software}/usr/sbin/{name}", *arguments]
            if setpriv := shutil.which("setpriv"):  # so that it does not outlive the tests
                command = [setpriv, "--pdeathsig", "TERM", *command]
            environ = self.environ | {"LANG": "C"}
            daemon = subprocess.Popen(command, env=environ, stdout=out, stderr=out)
            self._daemons.append(daemon)

    def _roots(self) -> list[Path]:
        return [root for mount in CGROUPS.iterdir() for root in mount.glob(f"slurm_{self.node}")]

    def _has_jobs(self) -> bool:
        """Whether a cgroup of a job is there; folders vanish while we look."""
        try:
            return any(True for root in self._roots() for _ in root.glob("uid_*/job_*"))
        except FileNotFoundError:
            return True

    def _remove_cgroups(self) -> None:
        for root in self._roots():
            folders = sorted((each for each in root.rglob("*") if each.is_dir()), reverse=True)
            for folder in (*folders, root):
                for pid in _pids(folder):
                    with suppress(ProcessLookupError):
                        os.kill(pid, 9)
            for folder in (*folders, root):
                with suppress(AssertionError):
                    self.wait(partial(_is_removed, folder), seconds=5)


def free_ports(count: int) -> Sequence[int]:
    """Ports of the loopback address that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _pids(folder: Path) -> list[int]:
    try:
        return [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def _is_removed(folder: Path) -> bool:
    with suppress(OSError):
        folder.rmdir()
    return not folder.exists()
