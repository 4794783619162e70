"""Claims about the grammar of ratio keys and about which key wins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.model import ResourceType
from aggregator.rating.ratio import RatioKey, most_specific, parse, why_nothing, why_unstorable

NAMES = st.none() | st.text(min_size=1, max_size=20) | st.text(r"\:@a ", min_size=1)
KEYS = st.builds(RatioKey, type=st.sampled_from(ResourceType), model=NAMES, vc=NAMES)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("gpu", RatioKey(type=ResourceType.GPU)),
        ("gpu:NVIDIA H200", RatioKey(type=ResourceType.GPU, model="NVIDIA H200")),
        ("gpu@vc1", RatioKey(type=ResourceType.GPU, vc="vc1")),
        (
            "gpu:NVIDIA H200@vc1",
            RatioKey(type=ResourceType.GPU, model="NVIDIA H200", vc="vc1"),
        ),
        (
            r"npu:A\:B\@C\\D@v\:c",
            RatioKey(type=ResourceType.NPU, model=r"A:B@C\D", vc="v:c"),
        ),
        ("gpu:NVIDIA  A30", RatioKey(type=ResourceType.GPU, model="NVIDIA  A30")),
    ],
)
def test_a_key_says_type_model_and_vc(text: str, key: RatioKey) -> None:
    """The four forms, with the escapes; blanks and case count."""
    assert parse(text) == key
    assert str(key) == text


@pytest.mark.parametrize(
    "text",
    [
        "GPU", "tokens", " gpu", "gpu ", "gpu:", "gpu@", "gpu:@vc1", "gpu:a:b", "gpu@a@b",
        "gpu@vc:a", "gpu\\", r"gpu:a\b", ":", "@", "gpu:a@", "\x00", "",
    ],
)  # fmt: skip
def test_any_other_text_matches_nothing_and_says_why(text: str) -> None:
    """It is no error: such a ratio is stored, and check names it."""
    assert parse(text) is None
    assert why_nothing(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("GPU", "write `gpu`"),
        ("tokens", "cpu, gpu, mem, npu, storage"),
        ("gpu:a:b", "inside a name"),
    ],
)
def test_the_reason_says_what_to_write(text: str, hint: str) -> None:
    """The three ways to miss have three remedies."""
    assert hint in why_nothing(text)


@given(KEYS)
def test_reading_inverts_writing(key: RatioKey) -> None:
    """Any name survives its escapes."""
    assert parse(str(key)) == key


@given(st.text(max_size=30) | st.text(r"gpu:@\a", max_size=12))
def test_a_meaning_has_one_spelling(text: str) -> None:
    """So two ratios in force never claim the same usage with the same right."""
    key = parse(text)
    assert key is None or str(key) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("a" * 513, "512"),
        ("a\x00", "control"),
        ("a\r\nb", "control"),
        ("\x9b", "control"),
        ("\ud800", "control"),
    ],
)
def test_a_text_that_cannot_be_a_key_says_why(text: str, reason: str) -> None:
    """Nothing that a terminal or the database could choke on."""
    assert reason in (why_unstorable(text) or "")


@pytest.mark.parametrize("text", ["gpu", " ", "tokens per second", "\u202e", "é" * 512])
def test_any_other_text_is_a_key(text: str) -> None:
    """Whether or not it matches usage."""
    assert why_unstorable(text) is None


def test_the_most_specific_key_wins() -> None:
    """Model + vc over vc over model over type."""
    order = ["gpu", "gpu:NVIDIA H200", "gpu@vc1", "gpu:NVIDIA H200@vc1"]
    keys = [key for text in order if (key := parse(text))]
    for end in range(1, len(keys) + 1):
        assert str(most_specific(keys[:end])) == order[end - 1]
        assert str(most_specific(reversed(keys[:end]))) == order[end - 1]
    assert most_specific([]) is None


@pytest.mark.parametrize(
    ("text", "is_covered"),
    [
        ("gpu", True),
        ("gpu:NVIDIA H200", True),
        ("gpu@vc1", True),
        ("gpu:NVIDIA H200@vc1", True),
        ("gpu:nvidia h200", False),
        ("gpu@vc2", False),
        ("gpu:NVIDIA H200@vc2", False),
        ("npu", False),
    ],
)
def test_a_key_covers_what_it_names(text: str, is_covered: bool) -> None:  # noqa: FBT001
    """Every part that is there must be equal."""
    key = parse(text)
    assert key is not None
    assert key.covers(type_="gpu", model="NVIDIA H200", vc="vc1") is is_covered


def test_a_model_key_does_not_cover_usage_without_a_model() -> None:
    """Memory has no device model."""
    key = parse("mem:DDR5")
    assert key is not None
    assert not key.covers(type_="mem", model=None, vc="vc1")
