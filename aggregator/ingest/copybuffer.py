"""Assembles what `COPY usage … (FORMAT BINARY)` reads, with numpy. Pure.

A row is its number of fields, then for each field its length and its bytes, all
big-endian; a stream is a header, rows, and a trailer. Instants are microseconds since
2000-01-01T00:00Z.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aggregator.ingest.columns import Columns, Int64s
from aggregator.model import IngestGroupId

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"

_POSTGRES_EPOCH_MS: Final = 946_684_800_000
_FIELDS: Final = (
    ("meter_id", ">i8"),
    ("started_at", ">i8"),
    ("ended_at", ">i8"),
    ("allocated", ">i8"),
    ("used", ">i8"),
    ("effective", ">i8"),
    ("observed_ms", ">i4"),
    ("ingest_group_id", ">i8"),
)
"""In the order of the columns that the query `copy_usage` names."""


def _row_type() -> np.dtype[np.void]:
    parts: list[tuple[str, str]] = [("fields", ">i2")]
    for name, kind in _FIELDS:
        parts += [(f"{name}_length", ">i4"), (name, kind)]
    return np.dtype(parts)


_ROW: Final = _row_type()


class CopyBuffer:
    """Rows for one COPY, filled batch by batch."""

    def __init__(self, record_count: int) -> None:
        """Make room for so many records; each must be put exactly once."""
        self._rows: NDArray[np.void] = np.empty(record_count, dtype=_ROW)
        self._filled = 0
        self._rows["fields"] = len(_FIELDS)
        for name, kind in _FIELDS:
            self._rows[f"{name}_length"] = np.dtype(kind).itemsize

    def put(self, columns: Columns, meter_ids: Int64s, group_id: IngestGroupId) -> None:
        """Add the records of one batch; `meter_ids` by the places of `columns.numbers`."""
        rows = self._rows[self._filled : self._filled + len(columns)]
        self._filled += len(columns)
        started_at = (columns.started_at_ms - _POSTGRES_EPOCH_MS) * 1000
        rows["meter_id"] = meter_ids[columns.meter]
        rows["started_at"] = started_at
        rows["ended_at"] = started_at + columns.length_ms * 1000
        rows["allocated"] = columns.allocated
        rows["used"] = columns.used
        rows["effective"] = columns.effective
        rows["observed_ms"] = columns.observed_ms
        rows["ingest_group_id"] = group_id

    def pieces(self) -> Sequence[bytes | memoryview]:
        """What to write, in order. Raises ValueError unless every row was put."""
        if self._filled != len(self._rows):
            raise ValueError(f"{self._filled} of {len(self._rows)} rows were put")
        return (HEADER, self._rows.view(np.uint8).data, TRAILER)
