"""The agent's one error tree; the docstrings are what the messages promise.

    AgentError
    ├── SettingsError      the configuration cannot be used: every fault of it at once
    ├── ProviderError      a job provider has no complete answer now
    │   └── JobFileError   one file of jobs.d does not describe a job; the others stand
    ├── SamplerError       a sampler cannot work at all on this machine
    ├── SpoolError         the spool can neither take nor give a frame
    ├── UplinkError        the aggregator cannot be talked to
    └── LaunchError        `exec` will not start the command: nothing was started

Foreign errors (OSError, grpc) are translated once, where they arise, by `raise … from`.
A message is a sentence for the person at the terminal: what, where, and what to do.
"""

from collections.abc import Sequence


class AgentError(Exception):
    """Base of what the commands show as a message, without a traceback."""


class SettingsError(AgentError):
    """Holds every fault of the configuration at once, each naming its key."""

    def __init__(self, problems: Sequence[str], source: str) -> None:
        """Join `problems` under the name of the file they were found in."""
        self.problems = tuple(problems)
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"the configuration ({source}) cannot be used:\n{lines}")


class ProviderError(AgentError):
    """Says why a provider cannot answer; its last complete answer stays in force."""


class SamplerError(AgentError):
    """Says what the sampler misses on this machine; runs stay allocated, unobserved."""


class SpoolError(AgentError):
    """Says which file of the spool failed and how; nothing was acknowledged."""


class UplinkError(AgentError):
    """Says which aggregator was tried and what it or the network answered."""


class LaunchError(AgentError):
    """Says why the command was not started, and what would let it start.

    `status` is what `exec` exits with: 1, or as shells do 127 for a command that is not
    there and 126 for one that cannot be run.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        """Take the sentence and the exit status."""
        self.status = status
        super().__init__(message)


class JobFileError(ProviderError):
    """Holds every fault of one jobs.d file: key, what is wrong, what to write instead."""

    def __init__(self, problems: Sequence[str]) -> None:
        """Join the faults; who reports them names the file."""
        self.problems = tuple(problems)
        super().__init__("; ".join(problems))
