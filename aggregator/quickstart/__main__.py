"""`make run`: the whole product on one machine, in the foreground.

Brings up the embedded TimescaleDB, the aggregator and an agent for this node, says how to use
them, and keeps them running until Ctrl-C or SIGTERM; then stops them in the order agent,
aggregator, database. All state lies in one directory and survives. It must not meter, rate or
serve anything itself.
"""

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NoReturn

from aggregator.errors import NodemeterError
from aggregator.quickstart.layout import (
    greeting,
    prepare_state,
    write_configs,
    write_file,
)
from aggregator.quickstart.links import Links, linked_configs
from aggregator.quickstart.options import VARIABLES, check_ports, read_options
from aggregator.quickstart.supervise import Child, Keeper, Kept
from aggregator.store.embedded import Server, ensure_server
from aggregator.store.embedded.place import state_dir_of

_READY_SECONDS = 120.0
_POLL_SECONDS = 0.2
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class NotReadyError(NodemeterError):
    """A program ended, or said nothing, before it was ready."""


class StopRequested(BaseException):
    """Ctrl-C, or a signal that asks to end; like KeyboardInterrupt not an error."""


def main() -> int:
    """0 after Ctrl-C or SIGTERM, 1 with a message where it cannot run."""
    logging.basicConfig(level=logging.INFO, format="%(message)s ...", stream=sys.stdout)
    os.umask(0o022)  # as root: the database's account must reach what we make
    for number in _STOP_SIGNALS:
        signal.signal(number, _on_stop)
    try:
        run(os.environ)
    except StopRequested:
        _say("stopped")
    except NodemeterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def run(environ: Mapping[str, str]) -> NoReturn:
    """Bring everything up and keep it up, until `StopRequested` or an error."""
    started_at = time.monotonic()
    options = read_options(environ)
    check_ports(options)
    state = options.state_dir or state_dir_of(Path.cwd())
    with ExitStack() as cleanup:
        server = cleanup.enter_context(ensure_server(state, software_dirs=_software_dirs(state)))
        prepare_state(state)
        write_configs(options, state, url=server.service_url, owner_url=server.url)
        links = cleanup.enter_context(linked_configs(state, Path(sys.prefix)))
        children = [_child(state, "aggregator", "serve"), _child(state, "agent", "run")]
        for child in children:
            _bring_up(child, cleanup)
        seconds = time.monotonic() - started_at
        binaries, is_linked = Path(sys.prefix) / "bin", links.hold()
        _say(greeting(options, state, binaries, seconds, is_linked=is_linked))
        if not is_linked and (other := links.holder()):
            _say(f"Commands without --config and --url are for the run in {other}, which goes on.")
        _watch(server, children, state, links)


def _software_dirs(state: Path) -> Sequence[Path]:
    """Where TimescaleDB may be unpacked already: also for another state directory."""
    places = [Path(sys.prefix), (Path.cwd() / ".run").resolve(), state.resolve()]
    return [place / "timescaledb" for place in places]


def _child(state: Path, name: str, verb: str) -> Child:
    program = Path(sys.prefix) / "bin" / f"nodemeter-{name}"
    return Child(
        name=name,
        command=[program, verb, "--config", state / f"{name}.toml"],
        environment={k: v for k, v in os.environ.items() if k not in VARIABLES},
        log=state / "log" / f"{name}.log",
    )


def _bring_up(child: Child, cleanup: ExitStack) -> None:
    cleanup.callback(_stop, child)
    child.start()
    if not child.wait_ready(_READY_SECONDS):
        raise NotReadyError(f"the {child.name} did not start; its log says:\n{child.said()}")


def _stop(child: Child) -> None:
    if not child.stop():
        _say(f"the {child.name} did not stop in time and was killed")


def _watch(server: Server, children: Sequence[Child], state: Path, links: Links) -> NoReturn:
    """Start again what ends, until a signal stops us or the state directory is gone."""
    everything: Sequence[Kept] = [server, *children]
    keepers = [Keeper(kept=one) for one in everything]
    _write_pids(everything, state)
    while True:
        time.sleep(_POLL_SECONDS)
        server.check_place()
        links.hold()  # the run that had them may have ended
        for said in filter(None, [keeper.check(now=time.monotonic()) for keeper in keepers]):
            _say(said)
            _write_pids(everything, state)


def _write_pids(everything: Sequence[Kept], state: Path) -> None:
    """Tell scripts and tests which process is which."""
    pids = {one.name: one.process.pid for one in everything if one.process is not None}
    write_file(state / "pids.json", json.dumps({"quickstart": os.getpid(), **pids}), 0o644)


def _on_stop(_number: int, _frame: FrameType | None) -> NoReturn:
    for each in _STOP_SIGNALS:
        signal.signal(each, signal.SIG_IGN)  # the stop itself is not interrupted
    _say("\nstopping: agent, aggregator, database ...")
    raise StopRequested


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
