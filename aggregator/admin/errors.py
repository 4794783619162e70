"""What the command tells its user when it cannot do what it was asked.

AdminError             the exit status is 1: it was tried and failed
├── UnreachableError   nobody answered
├── BusyError          too much was asked, for longer than we wait
└── UsageError         the exit status is 2: the call itself is wrong
"""


class AdminError(Exception):
    """A sentence for the user, without a traceback."""

    exit_status = 1


class UnreachableError(AdminError):
    """No aggregator answered."""

    def __init__(self, url: str, reason: str) -> None:
        """Say where it was looked for and how to have one there."""
        super().__init__(
            f"no aggregator answers at {url} ({reason}).\n"
            "Start one with `make run` or `systemctl start nodemeter-aggregator`, or name "
            "another with --url or NODEMETER_URL."
        )


class BusyError(AdminError):
    """The aggregator takes no more requests of ours for some seconds."""

    def __init__(self, detail: str, seconds: int) -> None:
        """Keep how long it asks to wait."""
        super().__init__(detail)
        self.seconds = seconds


class UsageError(AdminError):
    """What was given cannot be used."""

    exit_status = 2
