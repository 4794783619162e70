"""What can go wrong with the embedded server."""

from aggregator.errors import NodemeterError


class EmbeddedError(NodemeterError):
    """The embedded TimescaleDB cannot be had or run; the message says why and what to do."""


class InUseError(EmbeddedError):
    """Another process runs the embedded database of this state directory."""


class StateLostError(EmbeddedError):
    """The state directory is not the one that was begun with."""
