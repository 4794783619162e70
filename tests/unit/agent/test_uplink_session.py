"""The conversation: in order, resumable, bounded; every answer means one thing."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.backlog import Missing, StoredBatch
from agent.errors import UplinkError
from agent.uplink.backoff import Backoff
from agent.uplink.identity import Identity, read_machine_id
from agent.uplink.session import Session
from agent.uplink.target import check_target
from agent.uplink.terms import Pace, UplinkCounters
from proto.metering.v1 import metering_pb2 as pb
from tests.unit.agent.aggregators import batches_of

IDENTITY = Identity(
    node="n1",
    cluster="c1",
    address="10.0.0.7",
    boot_id="boot",
    machine_id="machine",
    agent_version="1.2",
    cpu_m=4_000,
    mem_kib=1 << 20,
    cpu_model=None,
)
R = pb.Reject.Reason


class MemoryBacklog:
    """A backlog in memory: what the spool promises, without a disk."""

    def __init__(self, *entries: bytes | str) -> None:
        """Bytes are batches, a text is the reason of a missing sequence."""
        self.entries = list(entries)
        self.stream_id = b"s" * 16
        self.acked_through = 0
        self.incarnation = ""
        self.sent: list[int] = []

    @property
    def last_sequence(self) -> int:
        """See `Backlog`."""
        return len(self.entries)

    def fetch(self, sequence: int) -> StoredBatch | Missing | None:
        """See `Backlog`."""
        if sequence > len(self.entries):
            return None
        entry = self.entries[sequence - 1]
        if isinstance(entry, bytes):
            return StoredBatch(sequence=sequence, at_ms=sequence * 1_000, batch=entry)
        last = sequence
        while last < len(self.entries) and self.entries[last] == entry:
            last += 1
        return Missing(first=sequence, last=last, reason=entry)

    def mark_sent(self, batch: StoredBatch) -> None:
        """See `Backlog`."""
        self.sent.append(batch.sequence)

    def ack(self, acked_through: int) -> None:
        """See `Backlog`."""
        self.acked_through = max(self.acked_through, acked_through)

    def refuse(self, sequence: int, reason: str) -> bool:
        """See `Backlog`."""
        is_held = isinstance(self.entries[sequence - 1], bytes)
        self.entries[sequence - 1] = reason
        return is_held

    def rewind(self, acked_through: int, incarnation: str) -> None:
        """See `Backlog`."""
        self.acked_through = min(self.acked_through, acked_through)
        self.incarnation = incarnation


def batch(sequence: int, *, run: int = 1, ends: Iterable[int] = ()) -> bytes:
    """A stored batch of one run with two meters."""
    return pb.Batch(
        sequence=sequence,
        runs=[pb.Run(number=run, key=f"run{run}")],
        meters=[pb.Meter(number=10 * run + n, run=run, type="cpu") for n in (1, 2)],
        records=pb.Records(base_ms=5, meter=[10 * run + 1], start_ms=[0], length_ms=[sequence]),
        run_ends=[pb.RunEnd(run=number, ended_at_ms=7) for number in ends],
    ).SerializeToString()


class Talk:
    """A session with its clock, and the aggregator's side played by hand."""

    def __init__(self, backlog: MemoryBacklog, pace: Pace | None = None) -> None:
        self.backlog = backlog
        self.counters = UplinkCounters()
        self.now = 1_000.0
        pace = pace or Pace(window_batches=3)
        self.session = Session(backlog, IDENTITY, pace, self.counters, self.now)

    def hears(self, message: pb.AggregatorMessage) -> None:
        """Let the aggregator say something."""
        self.session.receive(message, self.now)

    def welcome(
        self, acked_through: int = 0, digest: bytes = b"", *, max_batches: int = 0
    ) -> "Talk":
        """Let the aggregator answer the Hello; an older one takes each batch by itself."""
        welcome = pb.Welcome(
            acked_through=acked_through,
            incarnation="db/1",
            acked_digest=digest,
            max_batches=max_batches,
        )
        self.hears(pb.AggregatorMessage(welcome=welcome))
        return self

    def ack(self, through: int) -> None:
        """Let the aggregator ack."""
        self.hears(pb.AggregatorMessage(ack=pb.Ack(acked_through=through)))

    def reject(self, reject: pb.Reject) -> None:
        """Let the aggregator refuse something."""
        self.hears(pb.AggregatorMessage(reject=reject))

    def says(self) -> pb.AgentMessage | None:
        """The next message, if there is one."""
        message = self.session.next_message(self.now)
        return None if message is None else pb.AgentMessage.FromString(message)

    def batches(self) -> list[pb.Batch]:
        """Everything it wants to send now."""
        said: list[pb.Batch] = []
        while message := self.says():
            assert message.HasField("batch"), message
            said.append(message.batch)
        return said

    def sequences(self) -> list[int]:
        """The sequences of everything it wants to send now."""
        return [said.sequence for said in self.batches()]


def of(count: int) -> MemoryBacklog:
    return MemoryBacklog(*[batch(number) for number in range(1, count + 1)])


def reasons(talk: Talk) -> list[str]:
    """Why it is over; [] while it is not."""
    return [talk.session.outcome.reason] if talk.session.outcome else []


# Hello and Welcome -----------------------------------------------------------------------


def test_the_hello_says_who_and_how_far() -> None:
    """Node, spool and position; the aggregator decides from these whether to go on."""
    backlog = of(5)
    backlog.acked_through, backlog.incarnation = 3, "db/0"
    hello = pb.AgentMessage.FromString(Talk(backlog).session.hello).hello
    assert (hello.node, hello.cluster, hello.address) == ("n1", "c1", "10.0.0.7")
    assert (hello.boot_id, hello.machine_id) == ("boot", "machine")
    assert (hello.stream_id, hello.last_sequence, hello.acked_through) == (b"s" * 16, 5, 3)
    assert (hello.capacity.cpu_m, hello.capacity.mem_kib) == (4_000, 1 << 20)
    assert hello.incarnation == "db/0"


def test_nothing_is_sent_before_the_welcome() -> None:
    """Only the aggregator knows where to go on."""
    talk = Talk(of(2))
    talk.now += 3_600
    assert talk.says() is None
    assert not talk.session.is_welcome


def test_sending_goes_on_after_what_is_durable() -> None:
    """The Welcome's position counts, and is an ack."""
    talk = Talk(of(5)).welcome(2)
    assert talk.backlog.acked_through == 2
    assert talk.backlog.incarnation == "db/1"
    assert talk.sequences() == [3, 4, 5]


def test_a_restored_database_gets_everything_again() -> None:
    """A Welcome behind what was acked: replay, and what is gone is declared."""
    backlog = MemoryBacklog("gone", "gone", batch(3), batch(4))
    backlog.acked_through = 4
    talk = Talk(backlog).welcome(0)
    assert backlog.acked_through == 0
    message = talk.says()
    assert message is not None
    assert (message.gap.first, message.gap.last, message.gap.reason) == (1, 2, "gone")
    assert talk.sequences() == [3, 4]
    talk.ack(2)
    assert backlog.acked_through == 2


def test_an_aggregator_that_knows_more_than_the_spool_loses_the_stream() -> None:
    """A rolled-back disk or a clone must not go on under sequences that are taken."""
    talk = Talk(of(5)).welcome(6)
    outcome = talk.session.outcome
    assert outcome is not None
    assert outcome.is_stream_lost
    assert outcome.reason.startswith("the aggregator holds sequence 6, this spool gave out 5")
    assert talk.says() is None


@pytest.mark.parametrize(
    "message",
    [pb.AggregatorMessage(ack=pb.Ack(acked_through=1)), pb.AggregatorMessage()],
)
def test_what_comes_before_the_welcome_ends_the_conversation(
    message: pb.AggregatorMessage,
) -> None:
    """An ack of nothing, or a message that we do not know."""
    talk = Talk(of(1))
    talk.hears(message)
    assert talk.session.outcome is not None
    assert not talk.session.outcome.is_stream_lost


def test_a_second_welcome_ends_the_conversation() -> None:
    """Positions are given once."""
    talk = Talk(of(3)).welcome(1).welcome(2)
    assert talk.session.outcome is not None
    assert talk.backlog.acked_through == 1


# Batches ---------------------------------------------------------------------------------


def test_the_digest_is_over_the_stored_frame_whichever_way_it_is_sent() -> None:
    """With definitions or without: the aggregator can tell a replay from a conflict."""
    talk = Talk(of(2)).welcome()
    first = talk.says()
    talk.ack(1)
    second = talk.says()
    assert first is not None
    assert second is not None
    assert first.batch.digest == hashlib.sha256(batch(1)).digest()
    assert second.batch.digest == hashlib.sha256(batch(2)).digest()
    first.batch.ClearField("digest")
    assert first.batch == pb.Batch.FromString(batch(1))


def test_definitions_are_left_out_once_acked() -> None:
    """Before the ack they are sent again: it may be the batch that gets lost."""
    talk = Talk(of(4)).welcome()
    sent = [talk.says(), talk.says()]
    talk.ack(1)
    sent.append(talk.says())
    counts = [
        (len(message.batch.runs), len(message.batch.meters), len(message.batch.records.meter))
        for message in sent
        if message
    ]
    assert counts == [(1, 2, 1), (1, 2, 1), (0, 0, 1)]


def test_new_definitions_are_sent_beside_known_ones() -> None:
    """Only what the other side has is left out."""
    both = pb.Batch.FromString(batch(2))
    both.runs.append(pb.Run(number=9, key="new"))
    both.meters.append(pb.Meter(number=13, run=1))
    both.meters.append(pb.Meter(number=91, run=9))
    talk = Talk(MemoryBacklog(batch(1), both.SerializeToString())).welcome()
    talk.says()
    talk.ack(1)
    second = talk.says()
    assert second is not None
    assert [run.number for run in second.batch.runs] == [9]
    assert [meter.number for meter in second.batch.meters] == [13, 91]


def test_the_definitions_of_ended_runs_are_forgotten() -> None:
    """A connection of a year does not grow; the end itself may still name them."""
    backlog = MemoryBacklog(batch(1), batch(2, ends=[1]), batch(3, run=2))
    talk = Talk(backlog).welcome()
    talk.says()
    talk.ack(1)
    assert [len(said.meters) for said in talk.batches()] == [0, 2]
    talk.ack(3)
    assert talk.session._abridger.known.meters_of == {2: {21, 22}}


def test_no_more_is_under_way_than_the_window_holds() -> None:
    """By number and by bytes; each ack makes room."""
    talk = Talk(of(9)).welcome()
    assert talk.sequences() == [1, 2, 3]
    talk.ack(1)
    assert talk.sequences() == [4]
    talk.ack(4)
    assert talk.sequences() == [5, 6, 7]
    small = Talk(of(9), Pace(window_bytes=250)).welcome()
    assert len(small.sequences()) < 9


def test_a_batch_is_marked_before_it_is_sent() -> None:
    """Should it be destroyed later, the spool knows that it may have been delivered."""
    talk = Talk(of(2)).welcome()
    talk.says()
    assert talk.backlog.sent == [1]


def test_an_ack_of_what_was_never_sent_is_taken() -> None:
    """Another connection of ours may have sent it."""
    talk = Talk(of(5)).welcome()
    talk.says()
    talk.ack(4)
    assert talk.sequences() == [5]


# Heartbeats and patience -----------------------------------------------------------------


def test_a_node_with_nothing_to_say_says_so() -> None:
    """A heartbeat when nothing was sent for a while, not before and not between batches."""
    talk = Talk(MemoryBacklog(), Pace(heartbeat_seconds=30)).welcome()
    assert talk.says() is None
    assert talk.session.next_look(talk.now) == pytest.approx(30)
    talk.now += 30
    message = talk.says()
    assert message is not None
    assert message.HasField("heartbeat")
    assert talk.says() is None
    talk.backlog.entries.append(batch(1))
    talk.now += 30
    assert talk.sequences() == [1]
    assert talk.says() is None


def test_an_answer_that_does_not_come_ends_the_conversation() -> None:
    """A peer that died without a word is found by its silence."""
    talk = Talk(of(1), Pace(answer_seconds=120, heartbeat_seconds=1_000)).welcome()
    talk.now += 500
    talk.session.check_patience(talk.now)
    talk.says()
    talk.now += 119
    talk.session.check_patience(talk.now)
    assert reasons(talk) == []
    assert talk.session.next_look(talk.now) == pytest.approx(1)
    talk.now += 1
    talk.session.check_patience(talk.now)
    assert reasons(talk) == ["no answer for 120 s"]


def test_a_welcome_that_does_not_come_ends_the_conversation() -> None:
    """So does a Hello that nobody answers."""
    talk = Talk(of(1), Pace(answer_seconds=120))
    assert talk.session.next_look(talk.now) == pytest.approx(120)
    talk.now += 120
    talk.session.check_patience(talk.now)
    assert talk.session.outcome is not None


# Rejects ---------------------------------------------------------------------------------


def test_a_skipped_sequence_is_sent_again_from_there() -> None:
    """What was under way after it is not taken, so it is sent again as well."""
    talk = Talk(of(4)).welcome()
    assert talk.sequences() == [1, 2, 3]
    talk.reject(pb.Reject(reason=R.REASON_EXPECTED_SEQUENCE, sequence=3, expected=2))
    assert talk.sequences() == [2, 3]
    talk.ack(3)
    assert talk.sequences() == [4]


def test_missing_definitions_are_sent_again() -> None:
    """The aggregator was restarted on the same connection, or has forgotten."""
    talk = Talk(of(4)).welcome()
    talk.says()
    talk.ack(1)
    assert [len(said.meters) for said in talk.batches()] == [0, 0, 0]
    talk.reject(pb.Reject(reason=R.REASON_NEED_DEFINITIONS, sequence=2))
    again = talk.batches()
    assert [said.sequence for said in again] == [2, 3, 4]
    assert [len(said.meters) for said in again] == [2, 2, 2]


@pytest.mark.parametrize("expected", [0, 6])
def test_a_sequence_that_cannot_be_sent_is_not_looked_for(expected: int) -> None:
    """The next conversation begins with a Welcome that says where to go on."""
    talk = Talk(of(4)).welcome()
    talk.reject(pb.Reject(reason=R.REASON_EXPECTED_SEQUENCE, expected=expected))
    assert talk.session.outcome is not None
    assert not talk.session.outcome.is_stream_lost


def test_busy_is_come_back_later() -> None:
    """And not before."""
    talk = Talk(of(1)).welcome()
    talk.reject(pb.Reject(reason=R.REASON_BUSY, retry_after_ms=7_500, detail="slow database"))
    outcome = talk.session.outcome
    assert outcome is not None
    assert outcome.retry_after_seconds == 7.5
    assert outcome.reason == "REASON_BUSY: slow database"


def test_being_fenced_loses_the_stream() -> None:
    """Another agent has it: this one needs a stream of its own."""
    talk = Talk(of(1)).welcome()
    talk.reject(pb.Reject(reason=R.REASON_FENCED, detail="newer connection"))
    assert talk.session.outcome is not None
    assert talk.session.outcome.is_stream_lost


def test_a_conflict_loses_the_stream() -> None:
    """The spool went on otherwise than what is durable: what is ours belongs in another one."""
    talk = Talk(of(2)).welcome()
    talk.batches()
    talk.reject(pb.Reject(reason=R.REASON_CONFLICT, sequence=1))
    assert talk.counters.conflicts == 1
    assert talk.session.outcome is not None
    assert talk.session.outcome.is_stream_lost
    assert talk.backlog.acked_through == 0


@pytest.mark.parametrize("is_own", [True, False])
def test_the_digest_of_the_mark_shows_a_copy(*, is_own: bool) -> None:
    """A rolled-back spool that has caught up has as many sequences, and others."""
    talk = Talk(of(3))
    stored = batch(2) if is_own else batch(9)
    talk.welcome(2, digest=hashlib.sha256(stored).digest())
    assert (talk.session.outcome is None) is is_own
    assert talk.sequences() == ([3] if is_own else [])
    if talk.session.outcome:
        assert talk.session.outcome.is_stream_lost
        assert talk.backlog.acked_through == 0


def test_a_frame_that_is_refused_for_good_becomes_a_gap(caplog: pytest.LogCaptureFixture) -> None:
    """It is named, kept aside and declared, and what follows it is sent."""
    backlog = of(3)
    talk = Talk(backlog).welcome()
    talk.batches()
    talk.reject(pb.Reject(reason=R.REASON_INVALID, sequence=2, detail="no"))
    assert reasons(talk) == ["REASON_INVALID: no"]
    talk = Talk(backlog).welcome(1)
    message = talk.says()
    assert message is not None
    assert (message.gap.first, message.gap.last, message.gap.reason) == (2, 2, "REASON_INVALID: no")
    assert talk.sequences() == [3]
    assert len([one for one in caplog.records if getattr(one, "action", "") == "refused"]) == 1


def test_which_of_several_is_refused_is_found_out_one_by_one() -> None:
    """The aggregator could not even read its sequence."""
    talk = Talk(of(3)).welcome()
    talk.batches()
    talk.reject(pb.Reject(reason=R.REASON_INVALID, detail="cannot be parsed"))
    assert talk.session.outcome is not None
    assert talk.session.outcome.is_unclear
    assert talk.counters.refused == 0
    talk = Talk(talk.backlog, Pace(window_batches=1)).welcome(1)
    assert talk.sequences() == [2]
    talk.reject(pb.Reject(reason=R.REASON_INVALID, detail="cannot be parsed"))
    assert talk.counters.refused == 1
    assert talk.backlog.entries[1] == "REASON_INVALID: cannot be parsed"


def test_a_refused_hello_is_no_frame(caplog: pytest.LogCaptureFixture) -> None:
    """It is said again later: the configuration may be put right."""
    talk = Talk(of(1))
    talk.reject(pb.Reject(reason=R.REASON_INVALID, sequence=1, detail="address"))
    assert reasons(talk) == ["REASON_INVALID: address"]
    assert talk.counters.refused == 0
    assert caplog.records == []


@pytest.mark.parametrize("count", [1, 3])
def test_who_is_sent_away_in_mid_stream_loses_nothing(count: int) -> None:
    """Its certificate was revoked: that is no judgement of the one batch that is under way."""
    talk = Talk(of(count)).welcome()
    assert len(talk.sequences()) == count
    talk.reject(pb.Reject(reason=R.REASON_REFUSED, detail="was revoked"))
    assert reasons(talk) == ["REASON_REFUSED: was revoked"]
    assert talk.session.outcome is not None
    assert talk.session.outcome.is_refused
    assert talk.counters.refused == 0
    assert Talk(talk.backlog).welcome().sequences() == [*range(1, count + 1)]


def test_a_reason_of_a_newer_aggregator_ends_the_conversation_only() -> None:
    """It is said by its number."""
    talk = Talk(of(1)).welcome()
    newer = pb.AggregatorMessage.FromString(b"\x1a\x02\x08\x63")
    talk.hears(newer)
    assert reasons(talk) == ["reason 99: "]


def test_what_is_larger_than_the_aggregator_takes_is_never_sent() -> None:
    """Nor what is no batch at all: each is a gap, and the others go on."""
    talk = Talk(MemoryBacklog(batch(1), batch(2, ends=range(1, 500)), b"\xff", batch(4)))
    welcome = pb.Welcome(incarnation="db/1", max_message_bytes=1_000)
    talk.hears(pb.AggregatorMessage(welcome=welcome))
    said = [talk.says() for _ in range(3)]
    gaps = [one.gap for one in said if one and one.HasField("gap")]
    assert [(gap.first, gap.last) for gap in gaps] == [(2, 2), (3, 3)]
    assert "the aggregator takes 1000" in gaps[0].reason
    talk.ack(3)
    assert talk.sequences() == [4]


def test_a_mark_that_the_spool_has_no_more_is_believed() -> None:
    """It was pruned or damaged: nothing can be compared."""
    talk = Talk(MemoryBacklog(batch(1), "gone", batch(3)))
    talk.welcome(2, digest=b"x" * 32)
    assert talk.sequences() == [3]


@pytest.mark.parametrize("reason", [R.REASON_INVALID, R.REASON_UNSPECIFIED])
def test_any_other_reject_ends_the_conversation(reason: pb.Reject.Reason) -> None:
    """Nothing is dropped; the reason goes to the log."""
    talk = Talk(of(1)).welcome()
    talk.reject(pb.Reject(reason=reason, detail="what"))
    assert talk.session.outcome is not None
    assert talk.session.outcome.reason.endswith(": what")
    assert talk.backlog.acked_through == 0


@given(
    st.integers(1, 30),
    st.integers(0, 3),
    st.lists(st.tuples(st.sampled_from(["say", "ack", "skip", "forget"]), st.integers(0, 30))),
)
def test_whatever_is_rejected_everything_arrives_in_order(
    count: int, max_batches: int, moves: list[tuple[str, int]]
) -> None:
    """An aggregator that takes only the next sequence ends with all, each once."""
    talk = Talk(of(count), Pace(window_batches=5)).welcome(max_batches=max_batches)
    taken = 0
    defined = False
    for move, number in [*moves, *[("say", 0), ("ack", 30)] * (3 * count)]:
        if move == "say" and (message := talk.says()):
            for said in batches_of(message):
                if said.sequence == taken + 1:
                    defined = defined or bool(said.meters)
                    assert defined
                    assert said.digest == hashlib.sha256(batch(said.sequence)).digest()
                    taken += 1
        elif move == "ack":
            talk.ack(min(taken, number))
        elif move == "skip":
            talk.reject(pb.Reject(reason=R.REASON_EXPECTED_SEQUENCE, expected=taken + 1))
        elif move == "forget" and taken < count and talk.session._following > taken + 1:
            defined = False
            talk.reject(pb.Reject(reason=R.REASON_NEED_DEFINITIONS, sequence=taken + 1))
    assert talk.session.outcome is None
    assert taken == count == talk.backlog.acked_through


# Around it -------------------------------------------------------------------------------


def test_the_pause_grows_with_full_jitter_and_honours_the_hint() -> None:
    """Uniform from zero to a doubling ceiling; never less than the aggregator asked for."""
    backoff = Backoff(0.5, 30, Random(1))
    ceilings = [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert all(0 <= backoff.next_seconds() <= ceiling for ceiling in ceilings)
    assert 100 <= backoff.next_seconds(100) <= 130
    backoff.reset()
    assert backoff.next_seconds() <= 0.5
    many = [Backoff(30, 30, Random(seed)).next_seconds() for seed in range(200)]
    assert min(many) < 3, "from nothing"
    assert max(many) > 27, "to the ceiling"
    for _ in range(2_000):
        backoff.next_seconds()


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:50051",
        "127.8.9.1:1",
        "localhost:50051",
        "[::1]:50051",
        "ipv4:127.0.0.1:50051",
        "ipv6:[::1]:50051",
        "dns:///localhost:50051",
        "unix:/run/a.sock",
    ],
)
def test_plain_text_is_spoken_on_loopback(target: str) -> None:
    """Nobody else can listen there."""
    check_target(target)


@pytest.mark.parametrize(
    "target", ["10.0.0.1:50051", "meter.example.org:50051", "[2001:db8::1]:1", "127.0.0.1.nip.io:1"]
)
def test_plain_text_is_spoken_nowhere_else(target: str) -> None:
    """The message names the setting, the target and what would do."""
    with pytest.raises(UplinkError, match=r"\[uplink\] target .*is not on this host"):
        check_target(target)


def test_the_machine_id_may_be_missing(tmp_path: Path) -> None:
    """A container often has none; then it is empty, not an error."""
    path = tmp_path / "machine-id"
    assert read_machine_id(path) == ""
    path.write_text("abc\n")
    assert read_machine_id(path) == "abc"
