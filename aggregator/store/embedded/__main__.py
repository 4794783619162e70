"""Prepares the embedded server's software in a folder, for an installation without network."""

import sys
from pathlib import Path

from aggregator.store.embedded.errors import EmbeddedError
from aggregator.store.embedded.software import choose


def main() -> int:
    """Print which software will be used; 1 where none can be had, 2 for a wrong call."""
    if len(sys.argv) != 2:
        print("usage: python -m aggregator.store.embedded FOLDER", file=sys.stderr)
        return 2
    try:
        software = choose([Path(sys.argv[1]).absolute()], major=None)
    except EmbeddedError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"PostgreSQL {software.major}, TimescaleDB {software.timescaledb}: {software.binaries}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
