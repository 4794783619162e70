"""libdcmi by ctypes, against a library that was compiled from the vendor's declarations."""

import pytest

from agent.errors import SamplerError
from agent.samplers.ascend.chips import Chip, Place, Vnpu
from agent.samplers.ascend.dcmi import DcmiSource
from agent.samplers.ascend.dcmilib import Fate, fate, load_dcmi, reason
from agent.samplers.ascend.source import Look
from tests.unit.agent.samplers.ascend.stub import DcmiStub

RATE = "dcmi_get_device_utilization_rate"
CARD_0, CARD_1 = Place(0, 0), Place(1, 0)


def percents(source: DcmiSource) -> dict[Place, int | None]:
    return {place: look.percent for place, look in source.look(source.chips()).items()}


def test_a_chip_is_known_by_its_die_and_its_numbers(dcmi: DcmiStub, source: DcmiSource) -> None:
    """VDie id as the vendor's documents join it; logic id, physical id, PCI address, cores."""
    dcmi.add(3, logic=0, phy=3, die=0xABCD, bus=0x82, aicores=24)
    assert source.chips() == [
        Chip(
            place=Place(3, 0),
            logic=0,
            phy=3,
            model="Ascend910B2",
            die="0000ABCD-0000ABCE-0000ABCF-0000ABD0-0000ABD1",
            bus="0000:82:00.0",
            aicores=24,
        )
    ]


def test_two_chips_of_a_card_are_two_and_a_controller_is_none(
    dcmi: DcmiStub, source: DcmiSource
) -> None:
    """910C: each has its own numbers; the card's MCU computes nothing."""
    for chip in range(3):
        dcmi.add(0, chip, logic=chip, phy=chip + 4, name="910_9392")
    dcmi.unit(0, 2, 1)
    chips = source.chips()
    assert [(chip.place, chip.logic, chip.phy) for chip in chips] == [
        (Place(0, 0), 0, 4),
        (Place(0, 1), 1, 5),
    ]
    assert chips[0].die != chips[1].die
    assert {chip.model for chip in chips} == {"Ascend910_9392"}


def test_utilisation_is_the_whole_chips_where_the_driver_knows_it(
    dcmi: DcmiStub, source: DcmiSource
) -> None:
    """Vector units count as much as cubes; an old driver knows the cores only."""
    dcmi.add(0)
    dcmi.add(1)
    dcmi.percent(0, npu=70, core=30)
    dcmi.percent(1, core=55)
    assert percents(source) == {CARD_0: 70, CARD_1: 55}


def test_what_a_chip_does_not_know_is_asked_once(dcmi: DcmiStub, source: DcmiSource) -> None:
    """The answer "not supported" is remembered for as long as the chip is there."""
    dcmi.add(0)
    dcmi.percent(0, core=55)
    chips = source.chips()
    source.look(chips)
    before = dcmi.calls()
    assert source.look(chips) == {CARD_0: Look(55)}
    assert dcmi.calls() - before == 1


def test_a_passing_failure_is_no_change_of_mind(dcmi: DcmiStub, source: DcmiSource) -> None:
    """Busy, too slow, not ready: absent this time, and never the other utilisation instead."""
    for card in (0, 1):
        dcmi.add(card)
        dcmi.percent(card, npu=70, core=30)
    for code in (-8005, -8006, -8009, -8012, -8017, -8020):
        dcmi.fail(RATE, code, times=1, at=CARD_0[:2])
        assert percents(source) == {CARD_0: None, CARD_1: 70}
        assert percents(source) == {CARD_0: 70, CARD_1: 70}


def test_a_driver_that_answers_for_no_chip_is_a_failure(dcmi: DcmiStub, source: DcmiSource) -> None:
    """It says why."""
    dcmi.add(0)
    chips = source.chips()
    dcmi.fail(RATE, -8006, times=1)
    with pytest.raises(SamplerError, match=r"utilization_rate: timeout \(-8006\)"):
        source.look(chips)
    assert source.look(chips) == {CARD_0: Look(0)}
    assert source.look([]) == {}


def test_a_chip_without_any_utilisation_is_there(dcmi: DcmiStub, source: DcmiSource) -> None:
    """Not supported at all: a device without readings."""
    dcmi.add(0)
    dcmi.fail(RATE, -8255)
    assert percents(source) == {CARD_0: None}
    assert percents(source) == {CARD_0: None}


def test_more_than_a_hundred_is_absent(dcmi: DcmiStub, source: DcmiSource) -> None:
    """Drivers write 255 or 0xFFFFFFFF for what they could not read."""
    dcmi.add(0)
    dcmi.percent(0, npu=101)
    assert percents(source) == {CARD_0: None}


def test_a_lost_chip_is_told_from_one_that_is_slow(dcmi: DcmiStub, source: DcmiSource) -> None:
    """-8008 while it is looked at; then it is not listed any more, and comes back."""
    dcmi.add(0)
    dcmi.add(1)
    chips = source.chips()
    dcmi.fail(RATE, -8008, at=CARD_1[:2])
    assert source.look(chips)[CARD_1] == Look(None, is_lost=True)
    dcmi.fail("dcmi_get_device_type", -8007, at=CARD_1[:2])
    assert [chip.place for chip in source.chips()] == [CARD_0]
    dcmi.fail("dcmi_get_device_type", 0, times=0)
    assert [chip.place for chip in source.chips()] == [CARD_0, CARD_1]


def test_another_chip_in_a_lost_ones_place_is_another(dcmi: DcmiStub, source: DcmiSource) -> None:
    """Nothing of the first is remembered for the second."""
    dcmi.add(0, die=1)
    dcmi.percent(0, core=5)
    assert percents(source) == {CARD_0: 5}
    dcmi.reset()
    dcmi.fail("dcmi_get_card_list", -99997, times=1)
    with pytest.raises(SamplerError, match="not initialised"):
        source.chips()
    assert source.chips() == []
    dcmi.add(0, die=2, name="910B3")
    dcmi.percent(0, npu=66, core=5)
    assert [chip.model for chip in source.chips()] == ["Ascend910B3"]
    assert percents(source) == {CARD_0: 66}


def test_a_driver_that_answers_nothing_is_a_failure(dcmi: DcmiStub, source: DcmiSource) -> None:
    """Never "no chips"."""
    dcmi.add(0)
    dcmi.fail("dcmi_init", -8012, times=1)
    with pytest.raises(SamplerError, match=r"dcmi_init: device not ready \(-8012\)"):
        source.chips()
    dcmi.fail("dcmi_get_card_list", -8002)
    with pytest.raises(SamplerError, match="root"):
        source.chips()
    dcmi.fail("dcmi_get_card_list", 0, times=0)
    dcmi.fail("dcmi_get_device_id_in_card", -8006, times=1)
    with pytest.raises(SamplerError, match="timeout"):
        source.chips()
    assert len(source.chips()) == 1


def test_a_chip_keeps_its_name_whatever_fails_at_the_start(
    dcmi: DcmiStub, source: DcmiSource
) -> None:
    """Not ready to say its die: no answer yet, not another id; later failures change nothing."""
    dcmi.add(0, die=7, bus=0x82)
    dcmi.fail("dcmi_get_device_die_v2", -8012, times=2)
    for _ in range(2):
        with pytest.raises(SamplerError, match=r"die_v2: device not ready \(-8012\)"):
            source.chips()
    chips = source.chips()
    assert chips[0].die is not None
    dcmi.fail("dcmi_get_device_die_v2", -8255)
    dcmi.fail("dcmi_get_device_info", -8006)
    dcmi.fail("dcmi_get_device_type", -8006)
    assert source.chips() == chips


def test_a_chip_that_never_says_who_it_is_goes_by_its_place(
    dcmi: DcmiStub, source: DcmiSource
) -> None:
    """One broken chip must not keep the others from being metered for ever."""
    dcmi.add(0)
    dcmi.fail("dcmi_get_device_die_v2", -8012)
    for _ in range(4):
        with pytest.raises(SamplerError):
            source.chips()
    assert [chip.die for chip in source.chips()] == [None]


def test_a_broken_card_does_not_hide_the_others(dcmi: DcmiStub, source: DcmiSource) -> None:
    """Neither one that never answered, nor one that stops: that one's chips are still there."""
    dcmi.add(0)
    dcmi.add(1)
    dcmi.fail("dcmi_get_device_id_in_card", -8005, at=(1, -1))
    assert [chip.place for chip in source.chips()] == [CARD_0]
    dcmi.fail("dcmi_get_device_id_in_card", 0, times=0)
    dcmi.fail("dcmi_get_device_die_v2", -8012, times=1, at=CARD_1[:2])
    assert [chip.place for chip in source.chips()] == [CARD_0]
    assert [chip.place for chip in source.chips()] == [CARD_0, CARD_1]
    dcmi.fail("dcmi_get_device_id_in_card", -8005, at=(0, -1))
    assert {chip.place for chip in source.chips()} == {CARD_0, CARD_1}
    dcmi.fail("dcmi_get_device_id_in_card", -8008, at=(0, -1))
    assert [chip.place for chip in source.chips()] == [CARD_1]


def test_an_old_driver_knows_neither_dies_nor_vnpus(old_dcmi: DcmiStub) -> None:
    """Missing symbols are what it does not support."""
    library = load_dcmi(["/no/such/libdcmi.so", old_dcmi.path])
    assert library is not None
    source = DcmiSource(library)
    old_dcmi.add(0)
    old_dcmi.percent(0, core=12)
    chips = source.chips()
    assert [(chip.die, chip.bus, chip.vnpus, chip.logic) for chip in chips] == [(None, None, (), 0)]
    assert source.look(chips) == {CARD_0: Look(12)}


def test_vnpus_have_a_utilisation_of_their_own(dcmi: DcmiStub, source: DcmiSource) -> None:
    """Their chip reports 0 meanwhile, which is not known to be idle."""
    dcmi.add(0, aicores=20)
    dcmi.percent(0, npu=90)
    dcmi.vdev(0, 0, 100, "vir05_1c_16g", 40)
    dcmi.vdev(0, 0, 101, "vir10_3c_32g", 0)
    chips = source.chips()
    assert chips[0].aicores == 20
    assert chips[0].vnpus == (Vnpu(number=100, aicores=5), Vnpu(number=101, aicores=10))
    assert source.look(chips) == {Place(0, 0, 100): Look(40), Place(0, 0, 101): Look(0)}
    dcmi.no_vdevs(0)
    assert source.look(source.chips()) == {CARD_0: Look(90)}


def test_a_chip_that_cannot_be_cut_is_asked_for_vnpus_once(
    dcmi: DcmiStub, source: DcmiSource
) -> None:
    """Each inventory after that is one call shorter."""
    dcmi.add(0)
    source.chips()
    before = dcmi.calls()
    source.chips()
    usual = dcmi.calls() - before
    dcmi.fail("dcmi_get_device_info", -8255)
    source.chips()
    before = dcmi.calls()
    assert [chip.vnpus for chip in source.chips()] == [()]
    assert dcmi.calls() - before == usual - 1


def test_vnpus_without_a_utilisation_are_asked_once(dcmi: DcmiStub, source: DcmiSource) -> None:
    """Drivers that cannot say it: absent."""
    dcmi.add(0)
    dcmi.vdev(0, 0, 100, "vir10_3c_16g", 40)
    dcmi.fail("activity", -8255)
    chips = source.chips()
    assert source.look(chips) == {Place(0, 0, 100): Look(None)}
    before = dcmi.calls()
    source.look(chips)
    assert dcmi.calls() == before


def test_vnpus_stay_while_the_driver_does_not_say_them(dcmi: DcmiStub, source: DcmiSource) -> None:
    """A busy moment does not make a cut chip whole."""
    dcmi.add(0)
    dcmi.vdev(0, 0, 100, "vir10_3c_16g")
    chips = source.chips()
    dcmi.fail("dcmi_get_device_info", -8020, times=1)
    assert source.chips() == chips


def test_processes_are_asked_for_twice(dcmi: DcmiStub, source: DcmiSource) -> None:
    """The whole question fails when one process ends meanwhile; 64 of them fit."""
    dcmi.add(0)
    for pid in range(1000, 1064):
        dcmi.process(0, 0, pid)
    chips = source.chips()
    dcmi.fail("dcmi_get_device_resource_info", -8005, times=1)
    assert source.processes(chips) == {CARD_0: frozenset(range(1000, 1064))}
    dcmi.fail("dcmi_get_device_resource_info", -8005, times=2)
    assert source.processes(chips) == {}


def test_every_error_has_a_meaning() -> None:
    """An unknown one may pass."""
    assert [fate(code) for code in (0, -8255, -8008, -8012, -12345)] == [
        Fate.OK,
        Fate.UNSUPPORTED,
        Fate.LOST,
        Fate.PASSING,
        Fate.PASSING,
    ]
    assert reason(-12345) == "unknown error (-12345)"


def test_no_library_is_none() -> None:
    """Nor is one that speaks another interface."""
    assert load_dcmi(["/no/such/libdcmi.so", "libc.so.6"]) is None
