"""What npu-smi prints, in all its shapes: the right numbers, and never one that it did not say."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.samplers.ascend import keyvalues, tables
from agent.samplers.ascend.chips import bus_in, die_in, model_of
from agent.samplers.ascend.tables import MappedChip, TableChip, TableVnpu
from tests.unit.agent.samplers.ascend.outputs import all_outputs, output


def test_the_table_names_card_chip_bus_and_aicore() -> None:
    """Although `60233/ 65536` has lost a space, and a table of processes follows."""
    assert tables.info_table(output("info_910b2")) == [TableChip(6, 0, "0000:82:00.0", 0)]


def test_a_310p_has_a_card_number_of_its_own_and_no_hbm() -> None:
    """32768, power NA, a device number beside the chip's, rows wider than their heading."""
    assert tables.info_table(output("info_310p3")) == [TableChip(32768, 0, "0000:81:00.0", 88)]


def test_a_card_with_two_chips_has_one_row_above_them() -> None:
    """910C: both chips are the card's."""
    assert tables.info_table(output("info_910c")) == [
        TableChip(0, 0, "0000:9D:00.0", 65),
        TableChip(0, 1, "0000:9F:00.0", 58),
    ]
    assert tables.percents(tables.info_table(output("info_910c"))) == {(0, 0): 65, (0, 1): 58}


def test_a_table_without_the_aicore_column_gives_no_per_cent() -> None:
    """Some versions print none: what comes first then is memory."""
    text = output("info_910b2").replace("AICore(%)   Memory", "            Memory")
    assert [chip.percent for chip in tables.info_table(text)] == [None]


def test_na_is_no_per_cent() -> None:
    """And the chip is there all the same."""
    text = output("info_910b2").replace("| 0           0    / 0", "| NA          0    / 0")
    assert tables.info_table(text) == [TableChip(6, 0, "0000:82:00.0", None)]


def test_the_map_leaves_controllers_out() -> None:
    """Rows of `Mcu` have no logic id."""
    assert tables.chip_map(output("map_910b4")) == [
        MappedChip(0, 0, 0, None, "Ascend 910B4"),
        MappedChip(1, 0, 1, None, "Ascend 910B4"),
    ]


def test_the_map_has_a_fifth_column_on_a_910c() -> None:
    """The physical id."""
    assert tables.chip_map(output("map_910c")) == [
        MappedChip(0, 0, 0, 0, "Ascend910"),
        MappedChip(0, 1, 1, 1, "Ascend910"),
        MappedChip(1, 0, 2, 2, "Ascend910"),
    ]


def test_a_950_has_slots_and_no_logic_id() -> None:
    """There the physical id is the number that users know."""
    assert tables.chip_map(output("map_950")) == [MappedChip(5, 0, 5, 5, "Ascend950PR")]


def test_the_npu_id_need_not_be_the_logic_id() -> None:
    """A container that was given the fourth NPU calls it 0."""
    head = output("map_910b4").splitlines()[0]
    assert tables.chip_map(f"{head}\n 3 0 0 Ascend 910B3\n") == [
        MappedChip(3, 0, 0, None, "Ascend 910B3")
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("usages_910b", {0: 0}),
        ("usages_910c", {0: 65, 1: 58}),
        ("usages_old", {0: 42}),
        ("usages_950", {None: 12}),
        ("usages_opening", {0: 97, 1: 99}),
    ],
)
def test_utilisation_is_that_of_the_whole_chip_or_its_cores(
    name: str, expected: dict[int | None, int]
) -> None:
    """`NPU Utilization` where it is printed; `Chip ID` closes a block, opens it, or is missing."""
    assert keyvalues.utilisations(output(name)) == expected


def test_a_block_that_no_chip_closes_is_nobodys() -> None:
    """Cut off in the middle: the second chip is absent, not the first's twin."""
    text = output("usages_910c").rpartition("Chip ID")[0]
    assert keyvalues.utilisations(text) == {0: 65}


def test_impossible_per_cents_are_absent() -> None:
    """More than 100, negative, NA, a fraction."""
    for value in ("101", "-1", "NA", "6.5", "", "0x10", "\N{FULLWIDTH DIGIT FOUR}"):
        text = output("usages_old").replace(": 42", f": {value}")
        assert keyvalues.utilisations(text) == {}


def test_processes_of_two_chips_and_of_none() -> None:
    """A chip that has none is known to have none."""
    assert keyvalues.processes(output("proc_mem_310p3")) == {
        0: frozenset({1976358, 577293}),
        1: frozenset(),
    }


def test_a_process_without_a_name_counts() -> None:
    """It ended between two questions, or is in another namespace."""
    assert keyvalues.processes(output("proc_mem_nameless")) == {0: frozenset({29570})}


def test_a_failed_question_says_nothing_of_processes() -> None:
    """Neither some nor none."""
    assert keyvalues.processes("Failed to query proc-mem info.\n") == {}


def test_the_board_says_who_the_chip_is() -> None:
    """VDie id and PCI address; a 310P calls it Die ID."""
    assert keyvalues.board(output("board_910b")) == (
        "910B2",
        "42C711D4 20B03704 4A10C8D4 14CC040A D2102003",
        "0000:61:00.0",
    )
    assert keyvalues.board(output("board_310p")).die.startswith("409921D4")
    assert keyvalues.board("") == ("", "", "")


def test_vnpus_with_and_without_borders() -> None:
    """Number and template; the chip's AI cores come from the line above."""
    assert tables.vnpus(output("vnpu_910b")) == [
        TableVnpu(100, "vir10_3c_16g"),
        TableVnpu(101, "vir10_3c_16g"),
    ]
    assert tables.total_aicores(output("vnpu_910b")) == 20
    assert tables.vnpus(output("vnpu_310p")) == [TableVnpu(212, "vir04")]
    assert tables.total_aicores(output("vnpu_310p")) == 8
    assert tables.vnpus(output("vnpu_none")) == []
    assert tables.vnpus("The vnpu is not in docker mode, does not support querying.") == []


TEXTS = st.one_of(
    st.text(max_size=300),
    st.text(alphabet="|+=-/: .\n0123456789NPUChip IDaicore(%)", max_size=300),
    st.tuples(
        st.sampled_from(all_outputs()), st.integers(0, 2000), st.integers(0, 60), st.text()
    ).map(lambda parts: parts[0][: parts[1]] + parts[3] + parts[0][parts[1] + parts[2] :]),
)


def numbers_in(text: str) -> set[int]:
    return {int(digits) for digits in re.findall(r"[0-9]+", text)}


@given(TEXTS)
def test_no_parser_raises_or_makes_up_a_number(text: str) -> None:
    """Whatever the tool prints: what comes out stood in it, and per cents are per cents."""
    said = numbers_in(text)
    used = keyvalues.utilisations(text)
    assert set(used.values()) | {chip for chip in used if chip is not None} <= said
    for chip, pids in keyvalues.processes(text).items():
        assert pids | ({chip} - {None}) <= said
    rows = tables.info_table(text)
    assert {number for row in rows for number in (row.card, row.chip)} <= said
    percents = {row.percent for row in rows if row.percent is not None}
    assert (percents | set(used.values())) <= said & set(range(101))
    for mapped in tables.chip_map(text):
        assert {mapped.card, mapped.chip, mapped.logic, mapped.phy} - {None} <= said
    assert {vnpu.number for vnpu in tables.vnpus(text)} <= said
    assert tables.total_aicores(text) in {None, *said}
    assert all(part in text for part in keyvalues.board(text))


@given(TEXTS)
def test_names_out_of_any_text_fit_a_bill(text: str) -> None:
    """Ids and models are short and plain, whatever the driver calls a chip."""
    assert re.fullmatch(r"Ascend[0-9A-Za-z_.+-]{0,64}", model_of(text))
    assert re.fullmatch(r"([0-9A-F]{8}-){4}[0-9A-F]{8}", die_in(text) or "0" * 8 + "-00000000" * 4)
    assert re.fullmatch(
        r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]", bus_in(text) or "0000:00:00.0"
    )
