"""A connection's state stays small, and its outbox loses nothing that matters."""

from uuid import UUID

from aggregator.ingest.definition import RunRef
from aggregator.ingest.session import Identity, Outbox, Session
from aggregator.model import MeterId, NodeId, RunId, StreamId
from proto.metering.v1 import metering_pb2 as pb


async def test_acks_are_merged_and_a_close_comes_last() -> None:
    """However many were given while the agent did not read."""
    outbox = Outbox()
    for sequence in (3, 1, 2):
        outbox.ack(sequence)
    outbox.reject(pb.Reject(reason=pb.Reject.REASON_BUSY))
    outbox.close()
    ack, refusal, end = [await outbox.next() for _ in range(3)]
    assert ack is not None
    assert ack.ack.acked_through == 3
    assert refusal is not None
    assert refusal.reject.reason == pb.Reject.REASON_BUSY
    assert end is None


async def test_refusals_of_a_peer_that_does_not_read_are_bounded() -> None:
    """The newest are kept."""
    outbox = Outbox()
    for sequence in range(10_000):
        outbox.reject(pb.Reject(sequence=sequence))
    outbox.close()
    sequences: list[int] = []
    while (message := await outbox.next()) is not None:
        sequences.append(message.reject.sequence)
    assert sequences == list(range(10_000 - 256, 10_000))


def test_a_run_that_ended_is_forgotten_with_its_meters() -> None:
    """Other runs stay known."""
    identity = Identity(
        stream_id=StreamId(UUID(int=1)), epoch=1, node_id=NodeId(1), node="n", cluster="c",
        address="::1",
    )  # fmt: skip
    session = Session(identity=identity, expected=1)
    for run in (1, 2):
        session.learn_run(run, RunRef(run_id=RunId(run), key="k", vc="v"))
        session.learn_meter(run * 10, run, MeterId(run * 100))
    session.forget_run(1)
    session.forget_run(99)
    assert dict(session.known.runs).keys() == {2}
    assert dict(session.known.meters) == {20: 200}
