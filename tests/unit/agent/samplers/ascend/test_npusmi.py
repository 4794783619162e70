"""What npu-smi tells about chips, by a fake one that prints what real ones printed."""

from pathlib import Path

import pytest

from agent.clock import SystemTime
from agent.errors import SamplerError
from agent.samplers.ascend.chips import Chip, Place, Vnpu
from agent.samplers.ascend.npusmi import NpuSmiSource
from agent.samplers.ascend.runner import NpuSmi
from agent.samplers.ascend.source import Look
from tests.unit.agent.samplers.ascend.fakesmi import FakeSmi
from tests.unit.agent.samplers.ascend.outputs import output

CARD_0, CARD_1 = Place(0, 0), Place(1, 0)
DIE_0 = "42C711D4-20B03704-4A10C8D4-14CC040A-D2102003"
DIE_1 = "409921D4-2140A100-E54BDDD4-07CC040A-9B00301F"


@pytest.fixture
def fake(tmp_path: Path) -> FakeSmi:
    """Two cards of one chip."""
    fake = FakeSmi(tmp_path)
    fake.answer("info -m", output("map_910b4"))
    for card, board in enumerate(("board_910b", "board_310p")):
        fake.answer(f"info -t board -i {card} -c 0", output(board))
        fake.answer(f"info -t info-vnpu -i {card} -c 0", output("vnpu_none"))
        fake.answer(f"info -t usages -i {card}", output("usages_old"))
    return fake


def source(fake: FakeSmi, *device_files: str, timeout_seconds: float = 20.0) -> NpuSmiSource:
    tool = NpuSmi(fake.path, SystemTime().monotonic_ns, timeout_seconds)
    return NpuSmiSource(tool, lambda: device_files)


def test_chips_are_put_together_from_three_answers(fake: FakeSmi) -> None:
    """Who there is, who each is, and how many cores it has."""
    chips = source(fake, "davinci1", "davinci0", "davinci_manager").chips()
    assert chips == [
        Chip(
            place=CARD_0,
            logic=0,
            phy=0,
            model="Ascend910B4",
            die=DIE_0,
            bus="0000:61:00.0",
            aicores=20,
        ),
        Chip(
            place=CARD_1,
            logic=1,
            phy=1,
            model="Ascend910B4",
            die=DIE_1,
            bus="0000:81:00.0",
            aicores=20,
        ),
    ]


def test_device_files_are_matched_in_order_or_not_at_all(fake: FakeSmi) -> None:
    """A dead card leaves a hole in /dev; where the numbers do not fit, nothing is guessed."""
    assert [chip.phy for chip in source(fake, "davinci5", "davinci2").chips()] == [2, 5]
    assert [chip.phy for chip in source(fake, "davinci5").chips()] == [None, None]


def test_the_tools_own_physical_ids_win(fake: FakeSmi) -> None:
    """910C: a fifth column."""
    fake.answer("info -m", output("map_910c"))
    fake.answer("info -t board -i 0 -c 1", "")
    chips = source(fake, "davinci7", "davinci8", "davinci9").chips()
    assert [(chip.place, chip.phy) for chip in chips] == [
        (CARD_0, 0),
        (Place(0, 1), 1),
        (CARD_1, 2),
    ]


def test_utilisation_is_asked_of_each_card_once_and_one_after_the_other(fake: FakeSmi) -> None:
    """No two at a time: the vendor's protection against attacks would refuse them."""
    smi = source(fake)
    chips = smi.chips()
    fake.forget_log()
    fake.answer("info -t usages -i 1", output("usages_910b"))
    assert smi.look(chips) == {CARD_0: Look(42), CARD_1: Look(0)}
    assert fake.log() == [
        "begin info_-t_usages_-i_0",
        "end info_-t_usages_-i_0",
        "begin info_-t_usages_-i_1",
        "end info_-t_usages_-i_1",
    ]


def test_who_a_chip_is_is_asked_once(fake: FakeSmi) -> None:
    """The die does not change; vNPUs do."""
    smi = source(fake)
    first = smi.chips()
    fake.forget_log()
    assert smi.chips() == first
    assert [line for line in fake.log() if "board" in line] == []


def test_both_chips_of_a_card_are_in_one_answer(fake: FakeSmi) -> None:
    """A card is asked once, whatever it holds."""
    fake.answer("info -m", output("map_910c"))
    fake.answer("info -t board -i 0 -c 1", "")
    fake.answer("info -t usages -i 0", output("usages_910c"))
    smi = source(fake)
    looks = smi.look(smi.chips())
    assert looks == {CARD_0: Look(65), Place(0, 1): Look(58), CARD_1: Look(42)}


def test_an_answer_without_a_chip_id_is_the_only_chips(fake: FakeSmi) -> None:
    """Ascend950; with two chips on the card it would be anybody's."""
    smi = source(fake)
    chips = smi.chips()
    fake.answer("info -t usages -i 0", output("usages_950"))
    assert smi.look(chips)[CARD_0] == Look(12)
    two = [*chips, Chip(place=Place(0, 1), logic=9, phy=9, model="Ascend950")]
    assert smi.look(two)[CARD_0] == Look(None)


def test_one_card_that_fails_leaves_the_others(fake: FakeSmi) -> None:
    """Absent, not 0."""
    smi = source(fake)
    chips = smi.chips()
    fake.fail("info -t usages -i 0")
    assert smi.look(chips) == {CARD_0: Look(None), CARD_1: Look(42)}


def test_an_old_tool_is_asked_for_its_table(fake: FakeSmi) -> None:
    """It knows no `-t usages`."""
    fake.answer("info -m", output("map_910b4").replace("\t0  ", "\t6  "))
    fake.answer("info -t board -i 6 -c 0", output("board_910b"))
    fake.answer("info", output("info_910b2"))
    smi = source(fake)
    chips = smi.chips()
    fake.fail("info -t usages -i 1")
    assert smi.look(chips) == {Place(6, 0): Look(0), CARD_1: Look(None)}


def test_a_tool_that_answers_nothing_is_a_failure(fake: FakeSmi) -> None:
    """Neither no chips nor idle ones."""
    smi = source(fake)
    chips = smi.chips()
    for card in (0, 1):
        fake.fail(f"info -t usages -i {card}")
    with pytest.raises(SamplerError, match="info fails"):
        smi.look(chips)
    fake.answer("info", "")
    with pytest.raises(SamplerError, match="usages -i 0 fails"):
        smi.look(chips)
    fake.fail("info -m")
    with pytest.raises(SamplerError, match="info -m fails"):
        smi.chips()


def test_a_driver_that_hangs_is_not_asked_for_every_card(fake: FakeSmi) -> None:
    """Three are enough to know."""
    chips = [Chip(place=Place(card, 0), logic=card, phy=card, model="A") for card in range(8)]
    for card in range(8):
        fake.fail(f"info -t usages -i {card}")
    with pytest.raises(SamplerError):
        source(fake).look(chips)
    assert len([line for line in fake.log() if "usages" in line]) == 3


def test_vnpus_are_parts_without_a_utilisation(fake: FakeSmi) -> None:
    """The tool knows none of theirs, and 0 for the whole, which is not known to be idle."""
    fake.answer("info -t info-vnpu -i 0 -c 0", output("vnpu_910b"))
    smi = source(fake)
    chips = smi.chips()
    assert chips[0].vnpus == (Vnpu(number=100, aicores=10), Vnpu(number=101, aicores=10))
    assert smi.look(chips) == {CARD_1: Look(42)}
    fake.fail("info -t info-vnpu -i 0 -c 0")
    assert smi.chips() == chips


def test_a_chip_must_say_who_it_is(fake: FakeSmi) -> None:
    """Its id must not depend on luck: only after three refusals it goes by its place."""
    fake.fail("info -t board -i 1 -c 0")
    smi = source(fake)
    assert [[chip.die for chip in smi.chips()] for _ in range(3)] == [
        [DIE_0],
        [DIE_0],
        [DIE_0, None],
    ]
    fake.fail("info -t board -i 0 -c 0")
    with pytest.raises(SamplerError, match="tells of no chip who it is"):
        source(fake).chips()


def test_a_map_that_names_nobody_is_a_failure(fake: FakeSmi) -> None:
    """Another version's words, or a driver that has lost all its devices."""
    fake.answer("info -m", "NPU-Nummer  Chip\n")
    with pytest.raises(SamplerError, match="names no NPU"):
        source(fake).chips()


def test_processes_by_chip(fake: FakeSmi) -> None:
    """A card that does not answer is absent."""
    chips = source(fake).chips()
    fake.answer("info -t proc-mem -i 0", output("proc_mem_nameless"))
    assert source(fake).processes(chips) == {CARD_0: frozenset({29570})}
