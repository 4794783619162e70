"""A running meter as a row of a checkpoint."""

from agent.integrate import Meter, Span, next_minute, open_meter
from agent.model import ReadingKind
from agent.table import Json, Row


def dump_meter(meter: Meter) -> dict[str, Json]:
    """Everything of it but its number and its quota."""
    return {
        "position_ms": meter.position_ms,
        "cut_ms": meter.cut_ms,
        "window_start_ms": meter.window_start_ms,
        "used": meter.used,
        "effective": meter.effective,
        "observed_ms": meter.observed_ms,
        "kind": meter.kind,
        "value": meter.value,
        "read_at_ms": meter.read_at_ms,
        "advanced": meter.advanced,
        "slack": meter.slack,
        "asleep_ms": meter.asleep_ms,
        "spans": [list(span) for span in meter.spans],
    }


def load_meter(row: Row, *, number: int, quota: int) -> Meter:
    """Read it back.

    Raises:
        CheckpointError: something that cannot be missing is.
    """
    kind = row.text_or_none("kind")
    window_start_ms = row.integer("window_start_ms")
    return Meter(
        number=number,
        quota=quota,
        position_ms=row.integer("position_ms"),
        cut_ms=row.integer("cut_ms"),
        window_start_ms=window_start_ms,
        window_end_ms=next_minute(window_start_ms),
        used=row.integer("used"),
        effective=row.integer("effective"),
        observed_ms=row.integer("observed_ms"),
        kind=None if kind is None else ReadingKind(kind),
        value=row.integer("value"),
        read_at_ms=row.integer_or_none("read_at_ms"),
        advanced=row.integer("advanced"),
        slack=row.integer("slack", 0),
        asleep_ms=row.integer("asleep_ms", 0),
        spans=[Span(*values) for values in row.integers("spans")],
    )


MEASURED = tuple(dump_meter(open_meter(0, 0, 0)))
"""The names of what a row holds."""
