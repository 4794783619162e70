"""Tells agents what became of what they sent, and counts it.

The only place that makes acks and refusals for settled messages. It runs after the
commit: nothing here can fail a transaction.
"""

import logging
from typing import Final

from aggregator.ingest.barred import floors_of
from aggregator.ingest.runs import Takeover
from aggregator.ingest.session import Session
from aggregator.ingest.settle import BatchItem, Item, RepeatItem, Settlement
from aggregator.ingest.transaction import Stored
from aggregator.metrics import Metrics
from proto.metering.v1 import metering_pb2 as pb

_LOGGER: Final = logging.getLogger(__name__)


def refuse(
    session: Session,
    metrics: Metrics,
    reason: pb.Reject.Reason,
    *,
    sequence: int = 0,
    retry_after_ms: int = 0,
    detail: str = "",
) -> None:
    """Refuse a message; what is to be sent next is always said."""
    metrics.rejects.labels(pb.Reject.Reason.Name(reason).removeprefix("REASON_").lower()).inc()
    session.outbox.reject(
        pb.Reject(
            reason=reason,
            sequence=sequence,
            expected=session.expected,
            retry_after_ms=retry_after_ms,
            detail=detail,
        )
    )


def answer(stored: Stored, metrics: Metrics) -> None:
    """Ack what is durable, refuse what is not, and remember what was defined."""
    settlement = stored.settlement
    _learn(stored)
    for repeat in settlement.conflicting:
        _answer_conflict(repeat, metrics)
    for outdated in settlement.outdated:
        _rewind(outdated, settlement, metrics)
    for item in settlement.fenced:
        _end(item, metrics, pb.Reject.REASON_FENCED, "a newer connection holds this stream")
    for item in settlement.forgotten:
        _end(item, metrics, pb.Reject.REASON_BUSY, "the database no longer knows this stream")
    for item in settlement.astray:
        stream_id = item.session.identity.stream_id
        item.session.expected = settlement.acked_through[stream_id] + 1
        _end(item, metrics, pb.Reject.REASON_EXPECTED_SEQUENCE, "the mark is elsewhere")
    _ack(settlement, metrics)
    _count(stored, metrics)


def _learn(stored: Stored) -> None:
    for item, resolved in zip(stored.settlement.taken, stored.resolved, strict=True):
        for number in item.decoded.runs:
            item.session.learn_run(number, resolved.runs[number])
        floors = floors_of(item, resolved.runs)
        for number, meter in item.decoded.meters.items():
            item.session.learn_meter(
                number, meter.run, resolved.meters[number], floors.get(number, 0)
            )
        for number in item.decoded.run_ends:
            item.session.forget_run(number)


def _ack(settlement: Settlement, metrics: Metrics) -> None:
    sessions = {id(item.session): item.session for item in settlement.answered}
    for session in sessions.values():
        session.outbox.ack(settlement.acked_through[session.identity.stream_id])
        metrics.acks.inc()


def _count(stored: Stored, metrics: Metrics) -> None:
    settlement = stored.settlement
    metrics.batches.inc(len(settlement.taken))
    metrics.records.inc(sum(item.decoded.record_count for item in settlement.taken))
    metrics.replays.inc(len(settlement.replayed))
    metrics.conflicts.inc(len(settlement.conflicting))
    metrics.fenced.inc(len(settlement.fenced))
    if stored.takeover:
        _tell_takeover(stored.takeover, metrics)
    for gap in settlement.gaps:
        metrics.gaps.inc(gap.last - gap.first + 1)
        _LOGGER.error(
            "the node lost usage",
            extra={
                "action": "gap",
                "node": gap.session.identity.node,
                "first": gap.first,
                "last": gap.last,
                "reason": gap.reason,
            },
        )
    kept: list[BatchItem | RepeatItem] = [*settlement.taken, *settlement.conflicting]
    for item in kept:
        for part in item.decoded.set_aside:
            metrics.quarantined.labels(part.reason.value).inc(max(part.record_count, 1))
            _LOGGER.warning(
                "set aside",
                extra={
                    "action": "quarantine",
                    "node": item.session.identity.node,
                    "sequence": item.decoded.sequence,
                    "reason": part.reason.value,
                    "records": part.record_count,
                },
            )


def _tell_takeover(takeover: Takeover, metrics: Metrics) -> None:
    metrics.takeovers.inc(len(takeover.runs) + takeover.has_accounts)
    _LOGGER.log(
        logging.WARNING if takeover.runs else logging.INFO,  # its accounts alone are no news
        "a node goes on in another stream; what was metered before is not taken again",
        extra={
            "action": "take_over",
            "node": takeover.identity.node,
            "stream": str(takeover.identity.stream_id),
            "runs": len(takeover.runs),
            "first": takeover.runs[0] if takeover.runs else None,
        },
    )


def _rewind(item: BatchItem, settlement: Settlement, metrics: Metrics) -> None:
    """Ask for everything from the mark on, once; what was decoded before is no use any more."""
    session = item.session
    stream_id = session.identity.stream_id
    if session.seizures != settlement.seizures[stream_id]:
        session.rewind(settlement.acked_through[stream_id], settlement.seizures[stream_id])
        refuse(
            session,
            metrics,
            pb.Reject.REASON_NEED_DEFINITIONS,
            sequence=session.expected,
            detail="another stream of this node tells some of it now; define everything again",
        )


def _answer_conflict(item: RepeatItem, metrics: Metrics) -> None:
    refuse(
        item.session,
        metrics,
        pb.Reject.REASON_CONFLICT,
        sequence=item.decoded.sequence,
        detail="this sequence is durable with another content; yours is kept in quarantine",
    )


def _end(item: Item, metrics: Metrics, reason: pb.Reject.Reason, detail: str) -> None:
    if not item.session.outbox.is_closed:
        refuse(item.session, metrics, reason, detail=detail)
        item.session.outbox.close()
