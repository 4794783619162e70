"""The spool against a model of it: any order of calls, kills and power cuts."""

import os
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.backlog import StoredBatch
from agent.spool import Spool
from tests.unit.agent.spools import NOW_MS, SEGMENT_BYTES, copied, lose_hot_slot

RETENTION_MS = 1_000


class SpoolMachine(RuleBasedStateMachine):
    """Whatever happens, what was not acked is there, in order, with the newest checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.directory = Path(self.folder.name) / "0"
        self.generation = 0
        self.now_ms = NOW_MS
        self.spool = self.open()
        self.stream_id = self.spool.stream_id
        self.batches: list[bytes] = []
        self.acked = 0  # what was told
        self.durable_acked = 0  # what even a power cut leaves
        self.deletable = 0

    def open(self) -> Spool:
        """Open with segments of two to three large frames."""
        return Spool(self.directory, segment_bytes=SEGMENT_BYTES, retention_ms=RETENTION_MS)

    @rule(size=st.sampled_from([0, 10, 5_000, 7_000, 40_000]))
    def append(self, size: int) -> None:
        """Sequences follow one another; the checkpoint names the frame."""
        batch = os.urandom(size)
        sequence = self.spool.append(batch, b"state %d" % (len(self.batches) + 1), self.now_ms)
        self.batches.append(batch)
        assert sequence == len(self.batches)

    @precondition(lambda self: self.batches)
    @rule(part=st.floats(min_value=0, max_value=1))
    def ack(self, part: float) -> None:
        """Any position, old ones included."""
        through = round(part * len(self.batches))
        self.spool.ack(through)
        self.acked = max(self.acked, through)

    @precondition(lambda self: self.batches)
    @rule(part=st.floats(min_value=0, max_value=1))
    def send(self, part: float) -> None:
        """Fetch and mark any frame that is still there."""
        stored = self.spool.fetch(max(1, round(part * len(self.batches))))
        if isinstance(stored, StoredBatch):
            self.spool.mark_sent(stored)

    @rule()
    def rewind(self) -> None:
        """Another database answers that holds nothing."""
        self.spool.rewind(0, f"database/{self.generation}")
        self.acked = self.durable_acked = 0

    @rule(elapsed_ms=st.sampled_from([0, RETENTION_MS + 1]))
    def prune(self, elapsed_ms: int) -> None:
        """Deletes nothing that was not acked when it was called."""
        self.now_ms += elapsed_ms
        deleted = self.spool.counters.deleted_segments
        self.spool.prune(self.now_ms)
        self.deletable = max(self.deletable, self.acked)
        if self.spool.counters.deleted_segments > deleted:
            self.durable_acked = self.acked

    @rule()
    def restart(self) -> None:
        """An orderly end."""
        self.spool.close()
        self.durable_acked = self.acked
        self.spool = self.open()

    @rule(is_power_cut=st.booleans())
    def kill(self, *, is_power_cut: bool) -> None:
        """The agent is killed, or the machine: then the hot slot may be lost."""
        self.generation += 1
        target = copied(self.directory, Path(self.folder.name) / str(self.generation))
        self.spool.close()
        self.directory = target
        if is_power_cut:
            lose_hot_slot(target)
        self.spool = self.open()
        if is_power_cut:
            assert self.durable_acked <= self.spool.acked_through <= self.acked
            self.acked = self.spool.acked_through

    @invariant()
    def holds_what_was_not_acked(self) -> None:
        """The claims of the module, after every step."""
        spool = self.spool
        assert spool.stream_id == self.stream_id
        assert (spool.last_sequence, spool.acked_through) == (len(self.batches), self.acked)
        assert spool.recovered.floor_ms is None
        for sequence, batch in enumerate(self.batches, start=1):
            stored = spool.fetch(sequence)
            if isinstance(stored, StoredBatch):
                assert stored.batch == batch
            else:
                assert sequence <= self.deletable

    @invariant()
    def holds_the_newest_checkpoint(self) -> None:
        """A second look at the directory, as the next agent would take it."""
        if self.batches:
            newest = self.spool._segments.holder(len(self.batches))
            assert newest is not None
            content = newest.read(len(self.batches))
            assert content is not None
            assert content.checkpoint == b"state %d" % len(self.batches)

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.spool.close()
        self.folder.cleanup()


TestSpoolModel = SpoolMachine.TestCase
TestSpoolModel.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
