"""`nodemeter-agent exec`: run a command as a metered job.

Standard library only, and of that only what is needed: it has to start in 20 ms, because
people put it before commands that take a second. It talks to nobody: it writes the job's
file, and the agent, whenever it looks, finds all that it needs there.
"""

# Paths as text, since every import delays the command.
# ruff: noqa: PTH112, PTH116

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence

from agent.cgroups import find_hierarchies
from agent.config import Reader, ask_cgroup_root, ask_jobs_dir, find_config, read_config
from agent.errors import AgentError, LaunchError, SettingsError
from agent.launch.arguments import Request, parse_arguments
from agent.launch.child import Signals, become, find_program
from agent.launch.group import JobGroup, make_group
from agent.launch.job import Job, complain
from agent.launch.nested import Outer, find_outer
from agent.launch.quantity import show_mib
from agent.launch.record import Record


def main(arguments: Sequence[str]) -> int:
    """Run `exec` with its arguments; returns its exit status."""
    _fill_standard_descriptors()
    request = parse_arguments(arguments)
    try:
        return launch(request, os.environ)
    except LaunchError as error:
        complain(str(error))
        return error.status
    except AgentError as error:
        complain(str(error))
        return 1


def _fill_standard_descriptors() -> None:
    """Keep 0, 1 and 2 from becoming our own files where the caller has closed them.

    They are closed again for the command, as it would have found them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)  # takes the lowest number that is free


def launch(request: Request, environ: Mapping[str, str]) -> int:
    """Prepare and run the job.

    Raises:
        SettingsError, LaunchError: the command was not started.
    """
    program = find_program(request.command[0], environ.get("PATH", os.defpath))
    directory, cgroup_root = _find_places(request, environ)
    user = _billed_user(request, os.stat(directory).st_uid)
    job_id = f"{request.name}-{os.urandom(4).hex()}"
    outer = find_outer(directory, environ)
    if outer and outer.is_tree:
        return _join(outer, request, program, environ)
    group = _prepare_group(request, cgroup_root, job_id)
    if outer and group is None:
        return _join(outer, request, program, environ)
    record = Record(directory, job_id, _describe(request, job_id, user), show_mib(request.mem_kib))
    job = Job(job_id, record, group, needs_group=request.enforces)
    return job.run(program, list(request.command), {**environ, "NODEMETER_JOB_ID": job_id})


def _join(outer: Outer, request: Request, program: str, environ: Mapping[str, str]) -> int:
    """Become the command within a job that counts our processes anyway: they are billed once.

    Raises:
        LaunchError: the command cannot be run, or not as it was asked for.
    """
    if request.enforces:
        raise LaunchError(
            f"--enforce is impossible within job {outer.job_id}, which has no cgroup; leave "
            "--enforce out"
        )
    complain(
        f"{request.name} is part of job {outer.job_id} and billed with it, once: there is no "
        "cgroup to tell the two apart, so it is no job of its own and its quotas are not billed"
    )
    become(program, list(request.command), environ, Signals())
    return 1  # pragma: no cover  it never returns


def _find_places(request: Request, environ: Mapping[str, str]) -> tuple[str, str]:
    """The jobs directory, which must be there and take our file, and the cgroups' root."""
    path = find_config(request.config, environ)
    reader = Reader(read_config(path), environ)
    directory, cgroup_root = ask_jobs_dir(reader), ask_cgroup_root(reader)
    if faults := reader.faults():
        raise SettingsError(faults, path or "environment")
    if not os.path.isdir(directory):
        raise LaunchError(
            f"there is no jobs directory {directory}, so nobody would meter the job; start the "
            "agent, or name its configuration with --config"
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise LaunchError(
            f"you may not write to the jobs directory {directory}, so nobody would meter the "
            "job; an administrator can open it to all users with mode 1777"
        )
    return directory, cgroup_root


def _billed_user(request: Request, directory_owner: int) -> str:
    """Whom the agent will let us bill: ourselves, or anybody if it trusts us."""
    uid = os.geteuid()
    try:
        own = pwd.getpwuid(uid).pw_name
    except KeyError:
        own = str(uid)
    if request.user is None or request.user == own or uid in {0, directory_owner}:
        return request.user or own
    raise LaunchError(
        f"you are {own} and can bill only yourself: leave out --user, or let root start the job"
    )


def _prepare_group(request: Request, root: str, job_id: str) -> JobGroup | None:
    """Make the cgroup and its limits; without --enforce none is no fault."""
    limits_cpu = request.enforces and bool(request.cpu_m)
    group = make_group(find_hierarchies(root), job_id, limits_cpu=limits_cpu)
    if not request.enforces:
        return group
    if group is None:
        raise LaunchError(
            f"--enforce is impossible: no cgroup can be made below {root} by this user; leave "
            "--enforce out, or start the job as root"
        )
    try:
        group.limit(request.cpu_m, request.mem_kib)
    except LaunchError:
        group.remove()
        raise
    return group


def _describe(request: Request, job_id: str, user: str) -> dict[str, str | int | list[int]]:
    """What the record says from the first to the last."""
    return {
        "job_id": job_id,
        "job_name": request.name,
        "username": user,
        "vc": request.vc,
        "project": request.project,
        "cpu_m": request.cpu_m,
        "devices": list(request.gpus),
    }
