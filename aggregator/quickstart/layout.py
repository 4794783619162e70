"""The state directory of `make run`: its folders, its configuration files, and how to use it."""

import json
import os
import shlex
from pathlib import Path

from aggregator.quickstart.options import HOST, Options


def write_configs(options: Options, state: Path, *, url: str, owner_url: str) -> None:
    """Write both configuration files into `state`; the URLs are the database's."""
    notice = "# Written by `make run` at every start: changes made here are lost.\n"
    agent = f"""{notice}
[agent]
state_dir = {_toml(state / "agent")}

[uplink]
target = {_toml(f"{HOST}:{options.grpc_port}")}

[jobs]
dir = {_toml(state / "jobs.d")}
"""
    aggregator = f"""{notice}
[database]
url = {_toml(url)}
owner_url = {_toml(owner_url)}
state_dir = {_toml(state)}

[http]
host = {_toml(HOST)}
port = {options.http_port}

[grpc]
host = {_toml(HOST)}
port = {options.grpc_port}
"""
    write_file(state / "agent.toml", agent, 0o644)
    write_file(state / "aggregator.toml", aggregator, 0o600)


def prepare_state(state: Path) -> None:
    """Make the folders below the state directory; as root, everyone may hand in jobs."""
    (state / "log").mkdir(parents=True, exist_ok=True)
    (state / "agent").mkdir(mode=0o700, exist_ok=True)
    jobs = state / "jobs.d"
    jobs.mkdir(exist_ok=True)
    jobs.chmod(0o1777 if os.geteuid() == 0 else 0o755)


def greeting(
    options: Options, state: Path, binaries: Path, seconds: float, *, is_linked: bool
) -> str:
    """What is shown once everything is up: addresses, and commands that can be pasted.

    `is_linked`: the commands find this run by themselves.
    """
    url = f"http://{HOST}:{options.http_port}"
    launch = f"{shlex.quote(str(binaries / 'nodemeter-agent'))} exec"
    if not is_linked:
        launch += f" --config {shlex.quote(str(state / 'agent.toml'))}"
    admin = f"{shlex.quote(str(binaries / 'nodemeter'))} --url {url}"
    return f"""
nodemeter is up, after {seconds:.1f} s.

  bills    {url}/api/Bills
  docs     {url}/docs
  agents   {HOST}:{options.grpc_port} (gRPC)
  state    {state} (logs in {state / "log"})

Price a core-hour, run a metered job, and see what it costs:

  {admin} ratios set cpu 0.05 --per core-hour
  {launch} --name hello --cpu 500m --mem 256Mi -- sleep 60
  {admin} bills
  curl '{url}/api/Bills'

Ctrl-C stops everything; the next `make run` goes on with the same data.
"""


def write_file(path: Path, text: str, mode: int) -> None:
    """Replace a file as a whole; nobody sees half of it, or another mode."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=mode)
    draft.chmod(mode)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _toml(value: str | Path) -> str:
    return json.dumps(str(value), ensure_ascii=False)
