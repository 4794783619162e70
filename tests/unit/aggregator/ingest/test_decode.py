"""Every record of a batch is taken or set aside, once, for one reason."""

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.ingest.decode import Decoded, Known, NeedDefinitionsError, decode, digest_of
from aggregator.ingest.definition import (
    MAX_BASE_UNITS,
    AccountRef,
    Fault,
    RunRef,
    TimeBounds,
)
from aggregator.model import NO_USER, Account, MeterId, RunId, user_id
from proto.metering.v1 import metering_pb2 as pb

NOON_MS = 1_770_379_200_000
DAY_MS = 86_400_000
BOUNDS = TimeBounds(oldest_ms=NOON_MS - 35 * DAY_MS, newest_ms=NOON_MS + 300_000)
NOTHING = Known(runs={}, meters={})


def sealed(batch: pb.Batch) -> pb.Batch:
    """Give a digest."""
    batch.ClearField("digest")
    batch.digest = hashlib.sha256(batch.SerializeToString(deterministic=True)).digest()
    return batch


def good_batch(records: int = 3) -> pb.Batch:
    """A run with two meters and some minutes of the first."""
    run = pb.Run(
        number=1, key="files:j", provider="files", job_id="j", job_name="job", username="alice",
        vc="vc1", kind="job", started_at_ms=NOON_MS - DAY_MS,
    )  # fmt: skip
    meters = [
        pb.Meter(number=1, run=1, type="cpu", model="EPYC", quota=500, group_quota=500,
                 started_at_ms=NOON_MS - DAY_MS),
        pb.Meter(number=2, run=1, type="mem", quota=1024, group_quota=1024,
                 started_at_ms=NOON_MS - DAY_MS),
    ]  # fmt: skip
    columns = pb.Records(
        base_ms=NOON_MS - 3_600_000,
        meter=[1] * records,
        start_ms=[60_000 * place for place in range(records)],
        length_ms=[60_000] * records,
        allocated=[500 * 60_000] * records,
        used=[100 * 60_000] * records,
        effective=[500 * 60_000] * records,
        observed_ms=[60_000] * records,
    )
    return sealed(pb.Batch(sequence=1, runs=[run], meters=meters, records=columns))


def decoded(batch: pb.Batch, *, known: Known = NOTHING, is_whole: bool = False) -> Decoded:
    """Decode at noon."""
    return decode(batch, cluster="c1", known=known, bounds=BOUNDS, is_whole=is_whole)


def reasons(result: Decoded) -> dict[str, int]:
    """What was set aside, by reason."""
    return {part.reason.value: part.record_count for part in result.set_aside}


def test_a_good_batch_is_taken_whole() -> None:
    """Columns as sent, in milliseconds since 1970."""
    result = decoded(good_batch())
    assert result.columns is not None
    assert result.record_count == 3
    assert result.columns.started_at_ms.tolist() == [
        NOON_MS - 3_600_000 + 60_000 * place for place in range(3)
    ]
    assert result.columns.length_ms.tolist() == [60_000] * 3
    assert result.columns.numbers == [1]
    assert result.columns.meter.tolist() == [0, 0, 0]
    assert result.meter_ids is not None
    assert result.meter_ids.tolist() == [0]
    assert result.set_aside == ()


def test_the_users_id_is_the_providers_or_follows_from_the_name() -> None:
    """No user known: the all-zero id."""
    batch = good_batch()
    assert decoded(batch).runs[1].user_id == user_id("c1", "alice")
    batch.runs[0].user_id = "00000000-0000-4000-8000-00000000000A"
    assert str(decoded(batch).runs[1].user_id) == "00000000-0000-4000-8000-00000000000a"
    batch.runs[0].ClearField("user_id")
    batch.runs[0].ClearField("username")
    run = decoded(batch).runs[1]
    assert (run.user_id, run.username) == (NO_USER, None)


def set_record(field: str, value: int) -> Callable[[pb.Batch], None]:
    """Change the second record."""

    def change(batch: pb.Batch) -> None:
        getattr(batch.records, field)[1] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (set_record("length_ms", 0), "zero_length"),
        (set_record("length_ms", 60_001), "crosses_minute"),
        (set_record("start_ms", 59_999), "crosses_minute"),
        (set_record("length_ms", 2**32 - 1), "bad_time"),
        (set_record("allocated", -1), "negative"),
        (set_record("used", -(2**63)), "negative"),
        (set_record("effective", 2**63 - 1), "too_large"),
        (set_record("allocated", MAX_BASE_UNITS * 60_000 + 1), "too_large"),
        (set_record("effective", 500 * 60_000 - 1), "under_effective"),
        (set_record("used", 500 * 60_000 + 1), "under_effective"),
        (set_record("observed_ms", 60_001), "over_observed"),
    ],
)
def test_a_faulty_record_is_set_aside_alone(
    change: Callable[[pb.Batch], None], reason: str
) -> None:
    """For its reason; the two others are taken."""
    batch = good_batch()
    change(batch)
    result = decoded(sealed(batch))
    assert result.record_count == 2
    assert reasons(result) == {reason: 1}
    part = pb.Batch.FromString(result.set_aside[0].payload)
    assert len(part.records.meter) == 1
    assert part.records.length_ms[0] == batch.records.length_ms[1]
    assert [meter.number for meter in part.meters] == [1]
    assert [run.number for run in part.runs] == [1]


def test_the_bounds_themselves_are_within() -> None:
    """The largest quantity, the oldest start, the newest end, a second that ends a minute."""
    batch = good_batch(2)
    batch.records.allocated[0] = batch.records.effective[0] = MAX_BASE_UNITS * 60_000
    batch.records.start_ms[1], batch.records.length_ms[1] = 119_000, 1_000
    batch.records.observed_ms[1] = 1_000
    assert decoded(batch).record_count == 2
    batch.records.base_ms = BOUNDS.oldest_ms
    assert decoded(batch).record_count == 2
    batch.records.base_ms = BOUNDS.newest_ms - 120_000
    assert decoded(batch).record_count == 2
    batch.records.base_ms = BOUNDS.newest_ms - 60_000
    assert reasons(decoded(batch)) == {"bad_time": 1}


def set_run(field: str, value: str | int) -> Callable[[pb.Batch], None]:
    """Change the run."""
    return lambda batch: setattr(batch.runs[0], field, value)


def set_meter(field: str, value: str | int) -> Callable[[pb.Batch], None]:
    """Change the first meter."""
    return lambda batch: setattr(batch.meters[0], field, value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (set_run("user_id", "not-a-uuid"), "bad_uuid"),
        (set_run("user_id", ""), "bad_uuid"),
        (set_run("job_id", "a\0"), "bad_string"),
        (set_run("job_name", "\x85"), "bad_string"),
        (set_run("username", ""), "bad_string"),
        (set_run("vc", ""), "bad_string"),
        (set_run("project", "x" * 257), "bad_string"),
        (set_run("key", "x" * 513), "bad_string"),
        (set_run("started_at_ms", 0), "bad_time"),
        (set_run("started_at_ms", BOUNDS.newest_ms + 1), "bad_time"),
        (set_meter("type", "tpu"), "unknown_type"),
        (set_meter("type", ""), "unknown_type"),
        (set_meter("quota", -1), "bad_quota"),
        (set_meter("group_quota", 2**63 - 1), "bad_quota"),
        (set_meter("model", "a\nb"), "bad_string"),
        (set_meter("device", ""), "bad_string"),
        (set_meter("physical", "a\0"), "bad_string"),
        (set_meter("started_at_ms", -1), "bad_time"),
    ],
)
def test_a_faulty_definition_costs_the_records_that_need_it(
    change: Callable[[pb.Batch], None], reason: str
) -> None:
    """It is set aside with them."""
    batch = good_batch()
    change(batch)
    result = decoded(sealed(batch))
    assert result.record_count == 0
    assert reasons(result) == {reason: 3}
    part = pb.Batch.FromString(result.set_aside[0].payload)
    assert part.runs[0] == batch.runs[0]
    assert batch.meters[0] in part.meters


def test_names_may_hold_any_character_that_is_no_control() -> None:
    """Other scripts, quotes, colours of text that are not characters."""
    batch = good_batch()
    batch.runs[0].job_name = "作业 “1” 😀; DROP TABLE usage; --"
    assert decoded(batch).runs[1].job_name == batch.runs[0].job_name


def test_a_definition_that_nobody_uses_is_set_aside_too() -> None:
    """So that an operator sees it."""
    batch = good_batch(0)
    batch.meters[1].type = "tpu"
    assert reasons(decoded(sealed(batch))) == {"unknown_type": 0}


def test_what_is_unknown_is_asked_for_once() -> None:
    """A node that answers with the whole frame and still does not say is not asked again."""
    batch = good_batch()
    batch.ClearField("meters")
    with pytest.raises(NeedDefinitionsError):
        decoded(sealed(batch))
    result = decoded(sealed(batch), is_whole=True)
    assert reasons(result) == {"unknown_meter": 3}


def test_known_numbers_need_no_definition() -> None:
    """They bring the meters that the connection acked."""
    batch = good_batch()
    batch.ClearField("runs")
    batch.ClearField("meters")
    batch.run_ends.add(run=1, ended_at_ms=NOON_MS)
    run = RunRef(run_id=RunId(7), key="files:j", vc="vc1")
    known = Known(runs={1: run}, meters={1: MeterId(70)})
    result = decoded(sealed(batch), known=known)
    assert result.meter_ids is not None
    assert result.meter_ids.tolist() == [70]
    assert result.known_runs == {1: run}
    assert result.run_ends == {1: NOON_MS}


def test_a_definition_goes_before_what_was_known() -> None:
    """The frame is the node's last word on its numbers."""
    result = decoded(good_batch(), known=Known(runs={}, meters={1: MeterId(70)}))
    assert result.meter_ids is not None
    assert result.meter_ids.tolist() == [0]


def test_a_meter_of_an_unknown_run_is_a_fault() -> None:
    """There is nobody to bill."""
    batch = good_batch()
    batch.meters[0].run = 9
    with pytest.raises(NeedDefinitionsError):
        decoded(sealed(batch))
    assert reasons(decoded(sealed(batch), is_whole=True)) == {"unknown_run": 3}


def account_batch(kind: str = "idle") -> pb.Batch:
    """Three minutes of an account of the node."""
    batch = good_batch()
    run = batch.runs[0]
    run.key, run.provider, run.job_id, run.job_name = f"node:{kind}", "node", "node", kind
    run.kind, run.vc = kind, "default"
    run.ClearField("username")
    return sealed(batch)


@pytest.mark.parametrize("account", Account)
def test_a_run_of_the_node_itself_is_an_account(account: Account) -> None:
    """By its kind; devices by their uuid, the rest without one."""
    batch = account_batch(account.value)
    batch.meters[1].type, batch.meters[1].device = "gpu", "GPU-1"
    result = decoded(sealed(batch))
    assert (result.runs[1].account, result.runs[1].user_id) == (account, NO_USER)
    assert (len(result.meters), result.record_count, result.set_aside) == (2, 3, ())


@pytest.mark.parametrize(("allocated", "used"), [(7, 0), (0, 7), (0, 0)])
def test_an_account_says_its_amount_once_and_as_the_effective(allocated: int, used: int) -> None:
    """Of devices what is allocated, of all else what is used."""
    batch = account_batch()
    batch.records.allocated[:] = [allocated] * 3
    batch.records.used[:] = [used] * 3
    batch.records.effective[:] = [max(allocated, used)] * 3
    assert decoded(sealed(batch)).record_count == 3


def clear_meter(batch: pb.Batch) -> None:
    """A device's meter that does not say of which."""
    batch.meters[0].type = "npu"


@pytest.mark.parametrize(
    "change",
    [
        set_run("kind", "job"),
        set_run("kind", "Idle"),
        set_run("username", "alice"),
        set_run("user_id", "00000000-0000-4000-8000-00000000000a"),
        set_meter("type", "storage"),
        set_meter("device", "GPU-1"),
        clear_meter,
    ],
)
def test_what_is_no_account_is_not_taken_for_one(change: Callable[[pb.Batch], None]) -> None:
    """Nor is it billed: it is set aside."""
    batch = account_batch()
    change(batch)
    result = decoded(sealed(batch))
    assert result.record_count == 0
    assert reasons(result) == {"bad_account": 3}


def test_a_meter_that_no_account_has_is_set_aside_though_its_run_is_known() -> None:
    """What the connection acked is held against it, too."""
    batch = account_batch()
    del batch.meters[1:]
    batch.meters[0].type = "storage"
    batch.ClearField("runs")
    known = Known(runs={1: AccountRef(account=Account.IDLE)}, meters={})
    assert reasons(decode_whole(batch, known)) == {"bad_account": 3}
    batch.meters[0].type = "mem"
    assert decode_whole(batch, known).record_count == 3


def decode_whole(batch: pb.Batch, known: Known) -> Decoded:
    """Decode what is not asked for again."""
    return decoded(sealed(batch), known=known, is_whole=True)


def test_no_job_can_write_an_account() -> None:
    """Whatever its provider calls it, it is somebody's."""
    batch = account_batch("capacity")
    batch.runs[0].provider = "files"
    assert decoded(sealed(batch)).runs[1].account is None


def test_a_slice_names_its_device_and_a_whole_device_none() -> None:
    """Agents of before the field do not, either."""
    batch = good_batch()
    batch.meters[0].type, batch.meters[0].device = "gpu", "MIG-1"
    batch.meters[0].physical = "GPU-1"
    meters = decoded(sealed(batch)).meters
    assert (meters[1].physical, meters[2].physical) == ("GPU-1", None)


def test_an_end_in_the_future_is_set_aside() -> None:
    """With the run that it is of."""
    batch = good_batch()
    batch.run_ends.add(run=1, ended_at_ms=BOUNDS.newest_ms + 1)
    result = decoded(sealed(batch))
    assert result.run_ends == {}
    assert reasons(result) == {"bad_time": 0}
    part = pb.Batch.FromString(result.set_aside[0].payload)
    assert list(part.run_ends) == list(batch.run_ends)
    assert list(part.runs) == list(batch.runs)


@pytest.mark.parametrize("digest", [b"", b"x" * 31, b"x" * 33])
def test_a_digest_of_another_length_sets_the_batch_aside(digest: bytes) -> None:
    """And what it is told by is computed here."""
    batch = good_batch()
    batch.digest = digest
    result = decoded(batch)
    assert reasons(result) == {"bad_digest": 3}
    assert result.digest == digest_of(batch)
    assert len(result.digest) == 32


@given(
    column=st.sampled_from(
        ["meter", "start_ms", "length_ms", "allocated", "used", "effective", "observed_ms"]
    ),
    count=st.integers(min_value=0, max_value=5),
)
def test_columns_of_unequal_length_set_the_batch_aside(column: str, count: int) -> None:
    """Whichever column it is."""
    batch = good_batch()
    values = [*getattr(batch.records, column), *([1] * 5)][:count]
    del getattr(batch.records, column)[:]
    getattr(batch.records, column).extend(values)
    result = decoded(sealed(batch))
    aside = {part.reason for part in result.set_aside}
    assert (Fault.UNEQUAL_COLUMNS in aside) is (count != 3)
    assert result.record_count + sum(part.record_count for part in result.set_aside) == (
        count if column == "meter" else 3
    )


UINT32 = st.one_of(st.integers(0, 120_000), st.integers(0, 2**32 - 1))
INT64 = st.one_of(st.integers(0, 10**9), st.integers(-(2**63), 2**63 - 1))
NUMBERS = st.one_of(st.integers(0, 4), st.integers(0, 2**64 - 1))


@st.composite
def any_batches(draw: st.DrawFn) -> pb.Batch:
    """Batches that no honest node would send."""
    count = draw(st.integers(0, 6))
    batch = good_batch(0)
    batch.runs.add(number=draw(NUMBERS), key=draw(st.text(max_size=3)), started_at_ms=draw(INT64))
    batch.meters.add(
        number=draw(NUMBERS),
        run=draw(NUMBERS),
        type=draw(st.sampled_from(["cpu", "gpu", "", "x"])),
        quota=draw(INT64),
        started_at_ms=draw(INT64),
    )
    batch.run_ends.add(run=draw(NUMBERS), ended_at_ms=draw(INT64))
    batch.records.base_ms = draw(st.one_of(st.just(NOON_MS), INT64))
    for column, values in {
        "meter": NUMBERS, "start_ms": UINT32, "length_ms": UINT32, "allocated": INT64,
        "used": INT64, "effective": INT64, "observed_ms": UINT32,
    }.items():  # fmt: skip
        drawn = draw(st.lists(values, min_size=count, max_size=count))
        getattr(batch.records, column).extend(drawn)
    return sealed(batch)


@given(batch=any_batches())
def test_nothing_vanishes_and_nothing_is_taken_twice(batch: pb.Batch) -> None:
    """Whatever comes: records taken and records set aside are the records sent."""
    result = decoded(batch, is_whole=True)
    aside = [pb.Batch.FromString(part.payload) for part in result.set_aside]
    assert result.record_count + sum(part.record_count for part in result.set_aside) == len(
        batch.records.meter
    )
    assert [len(part.records.meter) for part in aside] == [
        part.record_count for part in result.set_aside
    ]
    assert len({part.reason for part in result.set_aside}) == len(result.set_aside)
    if result.columns is not None:
        assert (result.columns.started_at_ms >= BOUNDS.oldest_ms).all()
        assert (result.columns.ended_at_ms <= BOUNDS.newest_ms).all()
        assert (result.columns.allocated >= 0).all()
        assert (result.columns.length_ms > 0).all()
        assert (result.columns.effective >= result.columns.allocated).all()
        assert (result.columns.effective >= result.columns.used).all()
