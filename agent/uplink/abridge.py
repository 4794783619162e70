"""Puts stored batches on the wire without the definitions that the other side has. Pure.

From frame to frame the definitions are mostly the same bytes: runs and meters as the agent
writes them, between the sequence and the records. Where they are those of the frame before,
and nothing but records follows, they are cut out as they stand; nothing is parsed. In every
other case the batch is taken apart and put together again.
"""

import hashlib
import re
from dataclasses import dataclass

from agent.backlog import StoredBatch
from agent.uplink.known import NOTHING, Known, Named
from proto.metering.v1 import metering_pb2 as pb

_SEQUENCE = re.compile(rb"\x08[\x80-\xff]{0,9}[\x00-\x7f]")
_RECORDS = re.compile(rb"\x2a([\x80-\xff]{0,4}[\x00-\x7f])")
_DIGEST = b"\x12\x20"  # the tag of a field of 32 bytes, which may stand last as well as second


@dataclass(frozen=True, slots=True, kw_only=True)
class Abridged:
    """A Batch as it goes on the wire, and what its ack will teach."""

    stored: StoredBatch
    data: bytes
    named: Named


@dataclass(frozen=True, slots=True, kw_only=True)
class _Definitions:
    """The definitions of a stored batch, as they stand in it."""

    data: bytes
    named: Named


class Abridger:
    """Remembers what one connection has acked, and the definitions of the batch before."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self.known = Known()
        self._before: _Definitions | None = None
        self._is_known = False  # all that the batch before defined, …
        self._known_at = -1  # … when this many changes of `known` had been made

    def abridge(self, stored: StoredBatch) -> Abridged:
        """The Batch to send, with its digest.

        Raises:
            DecodeError: what is stored is no Batch.
        """
        start = self._start_of_repeated(stored.batch)
        if self._before is None or start is None:
            return self._take_apart(stored)
        end = start + len(self._before.data)
        if end == start or self._has_all(self._before.named):
            rest = stored.batch[:start] + stored.batch[end:]
            return _with_digest(stored, rest, NOTHING)
        if self.known.meters_of:  # perhaps it has some of them
            return self._take_apart(stored)
        return _with_digest(stored, stored.batch, self._before.named)

    def _start_of_repeated(self, batch: bytes) -> int | None:
        """Where the definitions of the batch before stand again, and only records follow."""
        sequence = _SEQUENCE.match(batch)
        if sequence is None or self._before is None:
            return None
        start, data = sequence.end(), self._before.data
        if not batch.startswith(data, start) or not _is_records(batch, start + len(data)):
            return None
        return start

    def _has_all(self, named: Named) -> bool:
        if self._known_at != self.known.changes:
            self._is_known = self.known.has_all(named.runs, named.meters)
            self._known_at = self.known.changes
        return self._is_known

    def _take_apart(self, stored: StoredBatch) -> Abridged:
        batch = pb.Batch.FromString(stored.batch)
        self._remember(batch)
        runs = [run for run in batch.runs if not self.known.has_run(run.number)]
        meters = [m for m in batch.meters if not self.known.has_meter(m.run, m.number)]
        if len(meters) < len(batch.meters):
            del batch.meters[:]
            batch.meters.extend(meters)
        if len(runs) < len(batch.runs):
            del batch.runs[:]
            batch.runs.extend(runs)
        batch.digest = digest_of(stored)
        named = Named(
            runs=[run.number for run in runs],
            meters=[(meter.run, meter.number) for meter in meters],
            ended=[end.run for end in batch.run_ends],
        )
        return Abridged(stored=stored, data=batch.SerializeToString(), named=named)

    def _remember(self, batch: pb.Batch) -> None:
        """Keep its definitions; whether they stand so in what is stored is seen each time."""
        named = Named(
            runs=[run.number for run in batch.runs],
            meters=[(meter.run, meter.number) for meter in batch.meters],
        )
        data = pb.Batch(runs=batch.runs, meters=batch.meters).SerializeToString()
        self._before, self._known_at = _Definitions(data=data, named=named), -1


def digest_of(stored: StoredBatch) -> bytes:
    """What tells one stored batch from another."""
    return hashlib.sha256(stored.batch).digest()


def _with_digest(stored: StoredBatch, data: bytes, named: Named) -> Abridged:
    return Abridged(stored=stored, data=data + _DIGEST + digest_of(stored), named=named)


def _is_records(batch: bytes, at: int) -> bool:
    """Whether from `at` on a batch holds its records and nothing else."""
    if at == len(batch):
        return True
    if not (length := _RECORDS.match(batch, at)):
        return False
    size: int = sum((octet & 0x7F) << 7 * place for place, octet in enumerate(length[1]))
    return length.end() + size == len(batch)
