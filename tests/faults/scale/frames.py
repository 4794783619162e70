"""What simulated nodes store: frames of a minute each, whose content follows from their number."""

from proto.metering.v1 import metering_pb2 as pb

QUOTA = 500
WINDOW_MS = 60_000


def used_of(sequence: int) -> int:
    """What each record of that frame says was used; most of the time less than its quota."""
    return (sequence % 509) * WINDOW_MS


def frame(name: str, sequence: int, start_ms: int, *, runs: int) -> bytes:
    """One minute of `runs` runs, the cpu and the memory of each, as a spool stores it.

    `name` makes their keys; two nodes may have the same.
    """
    count, used = 2 * runs, used_of(sequence)
    records = pb.Records(
        base_ms=start_ms + (sequence - 1) * WINDOW_MS,
        meter=range(1, count + 1),
        start_ms=[0] * count,
        length_ms=[WINDOW_MS] * count,
        allocated=[QUOTA * WINDOW_MS] * count,
        used=[used] * count,
        effective=[max(QUOTA * WINDOW_MS, used)] * count,
        observed_ms=[WINDOW_MS] * count,
    )
    batch = pb.Batch(sequence=sequence, records=records)
    for run in range(1, runs + 1):
        batch.runs.append(_run(name, run, start_ms))
        batch.meters.append(_meter(2 * run - 1, run, "cpu", start_ms))
        batch.meters.append(_meter(2 * run, run, "mem", start_ms))
    return batch.SerializeToString()


def _run(name: str, number: int, start_ms: int) -> pb.Run:
    return pb.Run(
        number=number,
        key=f"{name}:{number}",
        provider="files",
        job_id=f"{name}-{number}",
        job_name=name,
        username=f"user{number % 50}",
        vc="scale",
        kind="job",
        started_at_ms=start_ms,
    )


def _meter(number: int, run: int, type_: str, start_ms: int) -> pb.Meter:
    return pb.Meter(
        number=number,
        run=run,
        type=type_,
        quota=QUOTA,
        group_quota=QUOTA,
        started_at_ms=start_ms,
    )
