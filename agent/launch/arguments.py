"""The command line of `exec`. By hand: argparse alone would take a fifth of its start-up."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from agent.launch.quantity import check_fits, parse_cpu, parse_gpus, parse_mem

_MAX_NAME = 100
_MAX_TEXT = 256

USAGE = "usage: nodemeter-agent exec --name NAME [options] -- COMMAND …\n"
HELP = f"""{USAGE}
Run COMMAND as a metered job.

options:
  --name NAME        the job's name; its id is NAME-<random>
  --user USER        whom to bill (you; root and the owner of the jobs directory may name
                     anybody)
  --vc VC            virtual cluster (default)
  --project PROJECT  project (none)
  --cpu CPU          processors to bill as allocated: 500m, 2 or 1.5 (0)
  --mem MEM          memory to bill as allocated: 256Mi, 2Gi or 1G (0)
  --gpu IDX,…        GPUs to bill as allocated, by index (none)
  --enforce          let the kernel hold the job to --cpu and --mem, which are declared only
  --config PATH      the agent's configuration file
  -h, --help         show this and exit

The job is metered from the start of COMMAND to its end, and finds its id in the variable
NODEMETER_JOB_ID. What COMMAND leaves running is killed at its end.

Within COMMAND another exec begins a job of its own, if it can have a cgroup of its own.
Where there are no cgroups its command is part of the outer job, and billed once, with it.

examples:
  nodemeter-agent exec --name train --cpu 4 --mem 16Gi --gpu 0,1 -- python train.py
  nodemeter-agent exec --name burn --vc research --cpu 500m --mem 256Mi --enforce -- make -j
  sudo nodemeter-agent exec --name nightly --user alice --project p1 -- /opt/nightly.sh

exit status: that of COMMAND (128 + N when signal N killed it); 127 when it was not found,
126 when it cannot be run; 1 when it was not started, 2 for a wrong call.
"""


class Request:
    """What was asked for, in base units."""

    name = ""
    user: str | None = None
    vc = "default"
    project = ""
    cpu_m = 0
    mem_kib = 0
    gpus: Sequence[int] = ()
    enforces = False
    config: str | None = None
    command: Sequence[str] = ()


def parse_arguments(arguments: Sequence[str]) -> Request:
    """Read the command line; a wrong one ends the program with status 2 and the usage."""
    try:
        return _parse(list(arguments))
    except ValueError as error:
        sys.stderr.write(f"{USAGE}nodemeter-agent exec: {error}\n")
        raise SystemExit(2) from error


def _parse(words: list[str]) -> Request:
    request = Request()
    while words and words[0] != "--" and words[0].startswith("-"):
        option, has_value, value = words.pop(0).partition("=")
        if option in {"-h", "--help"}:
            sys.stdout.write(HELP)
            raise SystemExit(0)
        if option == "--enforce":
            if has_value:
                raise ValueError("--enforce takes no value; leave =… out")
            request.enforces = True
            continue
        if option not in _OPTIONS:
            raise ValueError(f"unknown option {option}; known are {', '.join(_OPTIONS)}, --enforce")
        if not has_value and not words:
            raise ValueError(f"{option} needs a value")
        field, read = _OPTIONS[option]
        try:
            setattr(request, field, read(value if has_value else words.pop(0)))
        except ValueError as error:
            raise ValueError(f"{option}: {error}") from error
    request.command = words[1:] if words[:1] == ["--"] else words
    return _check(request)


def _check(request: Request) -> Request:
    if not request.name:
        raise ValueError("--name is missing; the job needs a name")
    if not request.command:
        raise ValueError("no command; write it after --, such as: -- python train.py")
    if request.enforces and not (request.cpu_m or request.mem_kib):
        raise ValueError("--enforce has nothing to enforce; give --cpu or --mem")
    check_fits(
        request.cpu_m,
        request.mem_kib,
        os.sysconf("SC_NPROCESSORS_ONLN") * 1000,
        os.sysconf("SC_PHYS_PAGES") * (os.sysconf("SC_PAGE_SIZE") // 1024),
    )
    return request


def _name(text: str) -> str:
    """A name becomes part of a file's, a cgroup's and a job's name."""
    fits = all(letter.isalnum() or letter in "._-" for letter in text)
    if fits and text[:1].isalnum() and len(os.fsencode(text)) <= _MAX_NAME:
        return text
    raise ValueError(
        f"{text!r} is no job name; write letters, digits, '.', '_' and '-', beginning with a "
        f"letter or digit, at most {_MAX_NAME} bytes"
    )


def _text(text: str) -> str:
    """What fits a bill."""
    if 1 <= len(text) <= _MAX_TEXT and text.isprintable():
        return text
    raise ValueError(f"{text!r} is not 1 to {_MAX_TEXT} printable characters")


_OPTIONS: dict[str, tuple[str, Callable[[str], object]]] = {
    "--name": ("name", _name),
    "--user": ("user", _text),
    "--vc": ("vc", _text),
    "--project": ("project", _text),
    "--cpu": ("cpu_m", parse_cpu),
    "--mem": ("mem_kib", parse_mem),
    "--gpu": ("gpus", parse_gpus),
    "--config": ("config", str),
}
