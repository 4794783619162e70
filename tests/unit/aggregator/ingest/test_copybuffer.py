"""What COPY reads is what was put."""

import numpy as np
import pytest

from aggregator.ingest.columns import Columns
from aggregator.ingest.copybuffer import CopyBuffer
from aggregator.model import IngestGroupId


def columns() -> Columns:
    """Two records of two meters."""
    return Columns(
        numbers=[5, 6],
        meter=np.array([1, 0]),
        started_at_ms=np.array([946_684_800_000, 946_684_800_001]),
        length_ms=np.array([1, 2]),
        allocated=np.array([10, 11]),
        used=np.array([20, 21]),
        effective=np.array([30, 31]),
        observed_ms=np.array([1, 2]),
    )


def test_rows_are_in_postgresqls_binary_format() -> None:
    """Header, rows of eight fields, trailer; instants in µs since 2000."""
    buffer = CopyBuffer(2)
    buffer.put(columns(), np.array([50, 60]), IngestGroupId(7))
    header, rows, trailer = buffer.pieces()
    assert bytes(header).startswith(b"PGCOPY\n\xff\r\n\0")
    assert bytes(trailer) == b"\xff\xff"
    row = bytes(rows)[: len(rows) // 2]
    values = [60, 0, 1000, 10, 20, 30]
    expected = (8).to_bytes(2, "big")
    expected += b"".join((8).to_bytes(4, "big") + value.to_bytes(8, "big") for value in values)
    expected += (4).to_bytes(4, "big") + (1).to_bytes(4, "big")
    expected += (8).to_bytes(4, "big") + (7).to_bytes(8, "big")
    assert row == expected


def test_a_buffer_that_is_not_full_is_not_sent() -> None:
    """Rows of rubbish would be billed."""
    buffer = CopyBuffer(3)
    buffer.put(columns(), np.array([50, 60]), IngestGroupId(7))
    with pytest.raises(ValueError, match="2 of 3"):
        buffer.pieces()
