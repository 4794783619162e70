"""Group commit: one task collects the messages of many streams and stores them together.

The ack follows the commit. If the database fails, nobody knows whether it committed:
the connections of that group are closed, and the mark that the next Hello reads decides.
If it refuses the content, or storing fails in a way that nobody foresaw, the group is
stored one by one, and what fails alone goes to quarantine: one item costs no other one.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Final

import psycopg
from psycopg import errors

from aggregator.clock import Clock, to_ms
from aggregator.ingest.answer import answer, refuse
from aggregator.ingest.decode import refuse_whole
from aggregator.ingest.definition import Fault
from aggregator.ingest.ownership import ContestedError
from aggregator.ingest.room import Room
from aggregator.ingest.settle import BatchItem, Item
from aggregator.ingest.transaction import Stored, store
from aggregator.metrics import Metrics
from aggregator.model import StreamId
from aggregator.settings import IngestSettings
from aggregator.store.outage import Outage, meaning
from aggregator.store.pool import Pool
from proto.metering.v1 import metering_pb2 as pb

_LOGGER: Final = logging.getLogger(__name__)
_COMPANY: Final = 32
_ATTEMPTS: Final = 4
_DEFINITION: Final = 50
"""Storing a definition takes as long as storing so many records."""
_POOL_TIMEOUT_SECONDS: Final = 10
_REFUSED: Final = {Fault.REFUSED_BY_DATABASE, Fault.NOT_STORABLE}


class Committer:
    """Stores what is put, in groups, and answers each connection.

    Whoever puts an item has entered `room` with its size before; the committer leaves.
    """

    def __init__(
        self, pool: Pool, settings: IngestSettings, metrics: Metrics, clock: Clock
    ) -> None:
        """Take nothing until `run`."""
        self.room = Room(settings.max_queued_bytes)
        self._pool = pool
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._outage = Outage(_LOGGER, "the database failed", "commit")
        self._queue: deque[tuple[Item, int]] = deque()
        self._wake = asyncio.Event()
        self._is_stopping = False

    def put(self, items: Sequence[Item], size_bytes: int) -> None:
        """Queue items that came together, of that many bytes of room; one at least."""
        self._queue += [(item, 0) for item in items[:-1]]
        self._queue.append((items[-1], size_bytes))
        self._metrics.queued_bytes.set(self.room.taken_bytes)
        self._wake.set()

    def stop(self) -> None:
        """Let `run` return when the queue is empty."""
        self._is_stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Store groups until stopped."""
        while self._queue or not self._is_stopping:
            await self._wake.wait()
            if len(self._queue) < _COMPANY and not self._is_stopping:
                await asyncio.sleep(self._settings.linger_seconds)
            self._wake.clear()
            while self._queue:
                await self._commit_next()

    async def _commit_next(self) -> None:
        group, size_bytes = self._collect()
        try:
            await self._commit_open(group)
        except Exception:
            _LOGGER.exception("ingest failed", extra={"action": "commit"})
            self._fail(group)
        finally:
            self.room.leave(size_bytes)
            self._metrics.queued_bytes.set(self.room.taken_bytes)

    def _collect(self) -> tuple[list[Item], int]:
        """Take from the queue what fits in one transaction, one item at least."""
        group: list[Item] = []
        weight = size_bytes = 0
        while self._queue and len(group) < self._settings.max_group_batches:
            item, size = self._queue[0]
            weight += _weight(item)
            if group and weight > self._settings.max_group_records:
                break
            self._queue.popleft()
            group.append(item)
            size_bytes += size
        return group, size_bytes

    async def _commit_open(self, items: Sequence[Item]) -> None:
        """Store what came on connections that are not closed meanwhile."""
        group = [item for item in items if not item.session.outbox.is_closed]
        if group:
            await self._commit(group)

    async def _commit(self, group: Sequence[Item]) -> None:
        try:
            stored = await self._store(group)
        except ContestedError as error:
            for part in _apart(group, error.streams):
                await self._commit_open(part)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            _log_refusal(error)
            await self._commit_apart(group, Fault.REFUSED_BY_DATABASE)
        except psycopg.Error as error:
            self._outage.begin(error)
            self._fail(group, str(meaning(error)))
        except MemoryError:
            raise  # no item's fault
        except Exception:  # a fault of ours, which something in the group brings to light
            self._metrics.ingest_errors.inc()
            _LOGGER.exception("a group could not be stored", extra=_told(group))
            await self._commit_apart(group, Fault.NOT_STORABLE)
        else:
            self._outage.end()
            answer(stored, self._metrics)

    async def _commit_apart(self, group: Sequence[Item], fault: Fault) -> None:
        """Store each item by itself; alone and refused, it goes to quarantine."""
        if len(group) > 1:
            for item in group:
                await self._commit_open([item])
            return
        (item,) = group
        if isinstance(item, BatchItem) and not _is_refused(item):
            batch = pb.Batch.FromString(item.raw)
            _LOGGER.error("a batch is set aside", extra={**_told(group), "reason": fault.value})
            whole = refuse_whole(batch, fault)
            await self._commit([replace(item, decoded=whole)])
        else:
            self._fail(group)

    async def _store(self, group: Sequence[Item]) -> Stored:
        """Store; a transaction that lost against another one is known to be undone."""
        for attempt in range(_ATTEMPTS):
            try:
                async with self._pool.connection(_POOL_TIMEOUT_SECONDS) as connection:
                    with self._metrics.commit_seconds.time():
                        return await store(connection, group, now_ms=to_ms(self._clock()))
            except (errors.DeadlockDetected, errors.SerializationFailure):
                if attempt == _ATTEMPTS - 1:
                    raise
            except psycopg.ProgrammingError as error:
                if error.sqlstate is None:  # psycopg's own: a value that it cannot send
                    raise TypeError("a value that cannot be sent") from error
                raise
        raise AssertionError("not reached")

    def _fail(self, group: Sequence[Item], detail: str = "the database failed") -> None:
        """Close the connections; nobody knows what is durable until they are back."""
        self._metrics.ingest_errors.inc()
        retry_after_ms = round(self._settings.retry_after_seconds * 1000)
        for item in group:
            if not item.session.outbox.is_closed:
                refuse(
                    item.session,
                    self._metrics,
                    pb.Reject.REASON_BUSY,
                    retry_after_ms=retry_after_ms,
                    detail=detail,
                )
                item.session.outbox.close()


def _apart(group: Sequence[Item], streams: Collection[StreamId]) -> Iterable[Sequence[Item]]:
    """Part a group: what each of these streams brought, and before that all the rest."""
    yield [item for item in group if item.session.identity.stream_id not in streams]
    for stream_id in sorted(streams):
        yield [item for item in group if item.session.identity.stream_id == stream_id]


def _log_refusal(error: psycopg.Error) -> None:
    _LOGGER.error("the database refused a group", extra={"action": "commit", "error": str(error)})


def _weight(item: Item) -> int:
    """What an item costs, in records."""
    if not isinstance(item, BatchItem):
        return 0
    decoded = item.decoded
    return decoded.record_count + _DEFINITION * (len(decoded.runs) + len(decoded.meters))


def _is_refused(item: BatchItem) -> bool:
    return any(part.reason in _REFUSED for part in item.decoded.set_aside)


def _told(group: Sequence[Item]) -> dict[str, object]:
    """What the log says of a group: whose it is where that is one, and which sequence."""
    said: dict[str, object] = {"action": "commit", "items": len(group)}
    if len(group) == 1:
        said["node"] = group[0].session.identity.node
        said["stream"] = str(group[0].session.identity.stream_id)
        if isinstance(group[0], BatchItem):
            said["sequence"] = group[0].decoded.sequence
    return said
