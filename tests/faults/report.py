"""The one table at the end of a run."""

from collections.abc import Sequence
from statistics import median

from tests.faults.strikes import Strikes
from tests.faults.traffic import Totals
from tests.faults.truth import Ledger, Verdict


def table(*, seed: int, strikes: Strikes, totals: Totals, ledger: Ledger, verdict: Verdict) -> str:
    """What was sent, what was done to it, and what came of it."""
    kills = [
        f"{count} {kind} ({strikes.proven[kind]} in flight)"
        for kind, count in sorted(strikes.kills.items())
    ]
    points = [f"{count} x {point}" for point, count in sorted(strikes.points.items())]
    others = [f"{count} {name}" for name, count in sorted(strikes.disturbances.items())]
    seconds = strikes.recovery_seconds or [0.0]
    rows = [
        ("seed", str(seed)),
        ("batches sent", str(totals.sent)),
        ("  acked", str(totals.acked)),
        ("  replayed", str(totals.sent_again)),
        ("  conflicting", str(totals.rejects["REASON_CONFLICT"])),
        ("  quarantined", str(ledger.quarantined)),
        ("gaps", f"{ledger.gaps} sequences"),
        ("kills", f"{strikes.kills.total()}, {strikes.proven.total()} with batches in flight"),
        *_lines(kills),
        ("killed when", ""),
        *_lines(points),
        ("links disturbed", str(strikes.disturbances.total())),
        *_lines(others),
        ("recovery", f"median {median(seconds):.2f} s, max {max(seconds):.2f} s"),
        ("lost", f"{verdict.lost} base unit x ms"),
        ("doubled", f"{verdict.doubled} base unit x ms"),
        ("differences", str(len(verdict.faults))),
        *_lines(verdict.faults[:20]),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in rows)


def _lines(values: Sequence[str]) -> list[tuple[str, str]]:
    return [("", value) for value in values]
