"""The jobs.d schema: exact quantities, every fault named, nothing guessed."""

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import JobFileError
from agent.jobs.jobfile import MAX_BYTES, Owner, parse_job
from agent.model import DeviceShare, Reading, ReadingKind, ResourceType, Run

ROOT = Owner(0, "root", is_trusted=True)
ALICE = Owner(1000, "alice", is_trusted=False)
LEAST = {"job_id": "burn-1a2b", "username": "alice", "started_at": "2026-02-06T04:00:00.123Z"}
STARTED_MS = 1770350400123


def parse(owner: Owner = ROOT, **more: object) -> Run:
    return parse_job(json.dumps(LEAST | more).encode(), owner)


def problems(owner: Owner = ROOT, **more: object) -> tuple[str, ...]:
    with pytest.raises(JobFileError) as caught:
        parse(owner, **more)
    return caught.value.problems


def refused(text: str | bytes) -> str:
    with pytest.raises(JobFileError) as caught:
        parse_job(text.encode() if isinstance(text, str) else text, ROOT)
    return str(caught.value)


def test_the_least_file_asks_for_nothing() -> None:
    """Three keys make a job; no quota is 0, never the whole node."""
    run = parse()
    assert run == Run(
        key=run.key,
        provider="files",
        job_id="burn-1a2b",
        job_name="burn-1a2b",
        username="alice",
        started_at_ms=STARTED_MS,
        quotas={ResourceType.CPU: 0, ResourceType.MEM: 0},
    )
    assert run.key == f"files:burn-1a2b@{STARTED_MS}"


def test_a_full_file_says_everything() -> None:
    """Every key lands in its field, in base units."""
    run = parse(
        job_name="burn",
        user_id="6F9619FF-8B86-D011-B42D-00CF4FC964FF",
        vc="research",
        project="p",
        namespace="n",
        kind="service",
        cpu_m=500,
        mem_mi=256,
        cgroup="/nodemeter/burn-1a2b",
        devices=[0, "GPU-8f2c", "MIG-1", "NPU-pci-0000:00:0b.0"],
        storage_paths=["/data/a b"],
        ended_at="2026-02-06T06:00:01+02:00",
        cpu_usec=3_000_000,
    )
    assert (run.job_name, run.vc, run.project, run.namespace) == ("burn", "research", "p", "n")
    assert run.user_id == "6f9619ff-8b86-d011-b42d-00cf4fc964ff"
    assert run.kind == "service"
    assert run.quotas == {
        ResourceType.CPU: 500,
        ResourceType.MEM: 256 * 1024,
        ResourceType.STORAGE: 0,
    }
    assert run.cgroup == "/nodemeter/burn-1a2b"
    assert [(share.type, share.id) for share in run.devices] == [
        (ResourceType.GPU, "0"),
        (ResourceType.GPU, "GPU-8f2c"),
        (ResourceType.GPU, "MIG-1"),
        (ResourceType.NPU, "NPU-pci-0000:00:0b.0"),
    ]
    assert run.devices[0].share == DeviceShare(type=ResourceType.GPU, id="", model=None).share
    assert run.storage_paths == ("/data/a b",)
    assert run.ended_at_ms == STARTED_MS - 123 + 1000
    total = Reading(kind=ReadingKind.COUNTER, value=3_000_000)
    assert run.final == {ResourceType.CPU: total}


def test_an_unknown_user_is_said_not_left_out() -> None:
    """Null is a statement; a missing name is a mistake of the hook."""
    assert parse(username=None).username is None
    body = {key: value for key, value in LEAST.items() if key != "username"}
    assert "username: is missing" in refused(json.dumps(body))


def test_an_unknown_key_is_refused_with_the_known_ones() -> None:
    """A misspelt quota must not become a quota of 0."""
    (problem,) = problems(cpu=500)
    assert problem.startswith("'cpu': unknown key; known are job_id")
    assert "cpu_m" in problem


def test_every_fault_is_reported_at_once() -> None:
    """One look at the log repairs the hook."""
    found = problems(cpu_m=-5, mem_mi="1G", started_at="yesterday", extra=1)
    assert [problem.split(":")[0] for problem in found] == [
        "started_at",
        "mem_mi",
        "cpu_m",
        "'extra'",
    ]


@pytest.mark.parametrize("value", [-1, True, "500", 0.5, 10_000_001, 1e300, [1], {}])
def test_an_impossible_cpu_quota_is_refused(value: object) -> None:
    """Negative, boolean, textual, fractional and absurd quotas name the rule and the value."""
    (problem,) = problems(cpu_m=value)
    assert problem.startswith("cpu_m: must be")
    assert "not " in problem


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999999999", "1" * 5000])
def test_a_number_that_is_none_is_refused(text: str) -> None:
    """What Python's parser would let through is no quota, and costs nothing to refuse."""
    body = json.dumps(LEAST)[:-1] + f', "mem_mi": {text}}}'
    assert "mem_mi" in refused(body) or "not valid JSON" in refused(body)


@pytest.mark.parametrize(
    ("mem_mi", "kib"),
    [("256", 262144), ("0.5", 512), ("953.6748046875", 976563), ("0.1", 103), ("1e2", 102400)],
)
def test_memory_is_exact_to_the_kib(mem_mi: str, kib: int) -> None:
    """A decimal number of MiB is taken exactly and rounded up to whole KiB."""
    run = parse_job((json.dumps(LEAST)[:-1] + f', "mem_mi": {mem_mi}}}').encode(), ROOT)
    assert run.quotas[ResourceType.MEM] == kib


def test_whole_milli_cores_may_be_written_as_a_decimal() -> None:
    """500.0 is 500: some hooks know no integers."""
    assert parse(cpu_m=500.0).quotas[ResourceType.CPU] == 500


@pytest.mark.parametrize(
    "value",
    ["2026-02-06", "2026-02-06T04:00:00", "1770350400", 1770350400, "2026-02-30T00:00:00Z",
     "1999-12-31T00:00:00Z", "2026-02-06T25:00:00Z", "٢٠٢٦-02-06T04:00:00Z", ""],
)  # fmt: skip
def test_a_time_that_is_not_an_instant_is_refused(value: object) -> None:
    """No zone, no such day, no text: the message shows the form that is meant."""
    (problem,) = problems(started_at=value)
    assert "2026-02-06T04:00:00.123Z" in problem


def test_an_end_before_the_start_is_refused() -> None:
    """A run cannot be paid back."""
    (problem,) = problems(ended_at="2026-02-06T03:59:59Z")
    assert problem.startswith("ended_at: is before started_at")


def test_a_final_reading_needs_an_end_and_a_possible_size() -> None:
    """CPU time is final only at the end, and no machine has more than 10,000 cores."""
    assert any("without ended_at" in problem for problem in problems(cpu_usec=5))
    ended = "2026-02-06T04:00:01.123Z"
    assert parse(ended_at=ended, cpu_usec=20 * 10**9).final
    assert problems(ended_at=ended, cpu_usec=20 * 10**9 + 1)


@pytest.mark.parametrize("value", ["", "a\nb", "a\x1b[31mb", "a\x00", "x" * 257, "\u2028", 5])
def test_a_text_that_does_not_fit_a_bill_is_refused(value: object) -> None:
    """Control characters and over-long names stop here, and the message is printable."""
    (problem,) = problems(job_name=value)
    assert problem.startswith("job_name: must be a text of 1 to 256 characters")
    assert problem.isprintable()


def test_lone_surrogates_are_refused() -> None:
    """JSON can write half a character; a database cannot store it."""
    body = json.dumps(LEAST)[:-1] + ', "vc": "\\ud800"}'
    assert "vc: must be a text" in refused(body)


def test_names_of_every_script_are_welcome() -> None:
    """People are not named in ASCII."""
    assert parse(job_name="训练 №5").job_name == "训练 №5"


@pytest.mark.parametrize("value", ["nodemeter", "/", "/a/../b", "//a", "/a/", "/a/./b", 3, ""])
def test_a_cgroup_is_a_straight_path_below_the_root(value: object) -> None:
    """The root cgroup is the whole node, and a detour could lead anywhere."""
    (problem,) = problems(cgroup=value)
    assert problem.startswith("cgroup: must be an absolute path")


def test_cgroup_and_pids_exclude_each_other() -> None:
    """Both would count the same processes twice."""
    (problem,) = problems(cgroup="/a", pids=[5])
    assert "give one of the two" in problem


@pytest.mark.parametrize("value", [[1], [0], [-5], [True], ["7"], [4194305], [7, 7], 7, [2.0]])
def test_impossible_process_lists_are_refused(value: object) -> None:
    """Process 1 is the whole machine; the others do not exist."""
    assert problems(pids=value)[0].startswith("pids: ")


@pytest.mark.parametrize(
    "value", [[0, 0], ["GPU-1", "GPU-1"], [-1], [True], ["0"], "GPU-1", [1024]]
)
def test_impossible_device_lists_are_refused(value: object) -> None:
    """A device is held once, by its index or its uuid."""
    assert problems(devices=value)[0].startswith("devices: ")


def test_a_user_id_is_a_uuid() -> None:
    """Nothing else identifies a user across clusters."""
    assert problems(user_id="alice")[0].startswith("user_id: must be a uuid")


def test_a_plain_user_bills_only_himself() -> None:
    """A file that is not root's names its owner and no uuid."""
    assert parse(ALICE).username == "alice"
    assert problems(ALICE, username="bob")[0].startswith("username: the file is alice's")
    assert problems(ALICE, username=None)[0].startswith("username: the file is alice's")
    uuid = "6f9619ff-8b86-d011-b42d-00cf4fc964ff"
    assert problems(ALICE, user_id=uuid)[0].startswith("user_id: the file is alice's")


def test_a_plain_user_names_no_more_devices_than_a_machine_has() -> None:
    """Each of them is a meter for every minute."""
    assert len(parse(ALICE, devices=list(range(64))).devices) == 64
    assert problems(ALICE, devices=list(range(65))) == (
        "devices: are more than 64; only root's files may name so many",
    )
    assert len(parse(ROOT, devices=list(range(65))).devices) == 65


def test_a_plain_user_s_key_is_nobody_else_s() -> None:
    """Whatever name he chooses, his runs have keys of their own."""
    keys = {
        parse(ROOT).key,
        parse(ALICE).key,
        parse(Owner(1001, "alice", is_trusted=False)).key,
        parse(ROOT, job_id="1000:burn-1a2b").key,
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "5", '{"a":1}{}', "\ufeff{}", b"\xff\xfe", "[" * 60_000,
     '{"job_id":"a","job_id":"b"}', '{"a":' * 10_000],
)  # fmt: skip
def test_what_is_not_one_json_object_is_refused(text: str | bytes) -> None:
    """Syntax errors, twins, deep nesting and other encodings have one answer each."""
    assert "JSON" in refused(text)


@pytest.mark.parametrize("depth", [3, 977, 990])
@pytest.mark.parametrize("key", ["devices", "job_id", "no such key"])
def test_a_deep_value_is_shown_without_going_down_with_it(key: str, depth: int) -> None:
    """What the parser can still read, the message must be able to quote."""
    deep = f"{'[' * depth}1{']' * depth}"
    assert len(refused(f'{{"{key}":{deep}}}')) < 1000


def test_a_thousand_faults_are_told_in_some_lines() -> None:
    """The log is not the place where a file is printed."""
    found = problems(ROOT, **{f"key{number}": 1 for number in range(1000)})
    assert found[-1] == "and 980 more"
    assert len(found) == 21


def test_an_oversized_file_is_refused() -> None:
    """Nobody can make the agent parse megabytes."""
    assert "more than" in refused(b" " * (MAX_BYTES + 1))


@settings(deadline=None)
@given(st.binary(max_size=300) | st.text().map(str.encode))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    """Whatever stands in a file, the answer is a run or a `JobFileError`."""
    with suppress(JobFileError):
        parse_job(data, ALICE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*LEAST, "cpu_m", "mem_mi", "devices", "pids", "cgroup",
       "ended_at", "cpu_usec", "storage_paths", "user_id", "vc"]), JSON))  # fmt: skip
def test_no_value_breaks_the_schema(more: dict[str, object]) -> None:
    """Any JSON value under any known key is accepted within its bounds or named."""
    try:
        run = parse(ROOT, **more)
    except JobFileError:
        return
    assert 0 <= run.quotas[ResourceType.CPU] <= 10_000_000
    assert 0 <= run.quotas[ResourceType.MEM] <= 1 << 40
