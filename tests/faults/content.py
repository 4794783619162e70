"""What a streamer tells: the frames of a node whose every unit is known beforehand. Pure.

Frame n brings the run of job n, its meters and the first half of its records, and the
second half and the end of job n-1. A job's numbers follow from the seed, the node and n
alone, so the truth needs neither the node nor its spool.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from proto.metering.v1 import metering_pb2 as pb

_MINUTE_MS = 60_000
_SPREAD_MS = 3_600_000
_DEVICE = 126_000
_NUMBERS_PER_JOB = 1000  # more than a job has meters


class Piece(NamedTuple):
    """One record of one of a job's meters."""

    meter: int  # 0.. within the job
    start_ms: int
    length_ms: int
    allocated: int
    used: int
    effective: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job and all of its usage; `quotas` are its meters' types with their quotas."""

    job_id: str
    started_at_ms: int
    ended_at_ms: int
    quotas: Sequence[tuple[str, int]]
    pieces: Sequence[Piece]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Which jobs a node has; they begin within an hour from `base_ms` on."""

    seed: int
    node: str
    base_ms: int
    gpus: int = 1
    """Of those jobs that have any."""

    def job(self, number: int) -> Job:
        """Job `number`, from 1 on."""
        random = Random(f"{self.seed}/{self.node}/{number}")
        start_ms = self.base_ms + random.randrange(_SPREAD_MS)
        end_ms = start_ms + random.randint(1, 4 * _MINUTE_MS)
        quotas = [("cpu", random.randrange(64_000)), ("mem", random.randrange(1 << 28))]
        if random.random() < 0.3:
            quotas += [("gpu", _DEVICE)] * self.gpus
        pieces = [
            _piece(random, meter, quota, start, end)
            for start, end in _windows(start_ms, end_ms)
            for meter, (_, quota) in enumerate(quotas)
        ]
        return Job(
            job_id=f"{self.node}-{number}",
            started_at_ms=start_ms,
            ended_at_ms=end_ms,
            quotas=quotas,
            pieces=pieces,
        )

    def frame(self, number: int, *, is_last: bool = False) -> pb.Batch:
        """Frame `number`, from 1 on; the last one only ends what the one before began."""
        batch = pb.Batch()
        records: list[tuple[int, Piece]] = []
        if number > 1:
            ended = self.job(number - 1)
            _define(batch, number - 1, ended)
            batch.run_ends.add(run=number - 1, ended_at_ms=ended.ended_at_ms)
            half = len(ended.pieces) // 2
            records += [(number - 1, piece) for piece in ended.pieces[half:]]
        if not is_last:
            begun = self.job(number)
            _define(batch, number, begun)
            records += [(number, piece) for piece in begun.pieces[: len(begun.pieces) // 2]]
        if records:
            batch.records.CopyFrom(_columns(records))
        return batch


def _windows(start_ms: int, end_ms: int) -> Iterator[tuple[int, int]]:
    while start_ms < end_ms:
        cut_ms = min(end_ms, start_ms - start_ms % _MINUTE_MS + _MINUTE_MS)
        yield start_ms, cut_ms
        start_ms = cut_ms


def _piece(random: Random, meter: int, quota: int, start_ms: int, end_ms: int) -> Piece:
    length_ms = end_ms - start_ms
    allocated = quota * length_ms
    used = random.randrange(2 * allocated + 1)
    return Piece(meter, start_ms, length_ms, allocated, used, max(allocated, used))


def _define(batch: pb.Batch, number: int, job: Job) -> None:
    batch.runs.add(
        number=number,
        key=f"files:{job.job_id}@{job.started_at_ms}",
        provider="files",
        job_id=job.job_id,
        job_name=job.job_id,
        username=f"user{number % 7}",
        vc=f"vc{number % 3}",
        kind="job",
        started_at_ms=job.started_at_ms,
    )
    for index, (type_, quota) in enumerate(job.quotas):
        meter = batch.meters.add(
            number=number * _NUMBERS_PER_JOB + index,
            run=number,
            type=type_,
            quota=quota,
            group_quota=quota,
            started_at_ms=job.started_at_ms,
        )
        if type_ == "gpu":
            meter.device, meter.model = f"GPU-{index}", "H200"
            meter.group_quota = sum(each for name, each in job.quotas if name == type_)


def _columns(records: Sequence[tuple[int, Piece]]) -> pb.Records:
    base_ms = min(piece.start_ms for _, piece in records)
    columns = pb.Records(base_ms=base_ms)
    for number, piece in records:
        columns.meter.append(number * _NUMBERS_PER_JOB + piece.meter)
        columns.start_ms.append(piece.start_ms - base_ms)
        columns.length_ms.append(piece.length_ms)
        columns.allocated.append(piece.allocated)
        columns.used.append(piece.used)
        columns.effective.append(piece.effective)
        columns.observed_ms.append(piece.length_ms)
    return columns
