"""What can go wrong with the embedded server."""


class EmbeddedError(Exception):
    """The embedded TimescaleDB cannot be had or run; the message says why and what to do."""


class InUseError(EmbeddedError):
    """Another process runs the embedded database of this state directory."""
