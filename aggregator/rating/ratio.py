r"""What a ratio's key says: the grammar, its inverse, and which key wins.

    key   = type [":" model] ["@" vc]
    type  = cpu | mem | gpu | npu | storage
    names = any characters; a backslash stands before each `:`, `@` and `\` in them

There is exactly one spelling of each meaning, so two ratios in force can never claim the
same usage with the same right. Every other text is a valid ratio key that matches
nothing: it is stored, shown, and named by `nodemeter ratios check`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from aggregator.model import ResourceType

_KEY = re.compile(
    r"(?P<type>[a-z]+)(?::(?P<model>(?:[^\\:@]|\\[\\:@])+))?(?:@(?P<vc>(?:[^\\:@]|\\[\\:@])+))?",
    re.DOTALL,
)
_TYPES = frozenset(kind.value for kind in ResourceType)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

MAX_KEY_LENGTH = 512
"""Characters; what the index of the versions can hold at four bytes each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioKey:
    """The usage that a price is for: a type, one model of it, one virtual cluster, or both."""

    type: ResourceType
    model: str | None = None
    vc: str | None = None

    @property
    def specificity(self) -> int:
        """Model and vc (3) over vc (2) over model (1) over the plain type (0)."""
        return 2 * (self.vc is not None) + (self.model is not None)

    def covers(self, *, type_: str, model: str | None, vc: str) -> bool:
        """Whether usage of this class may be priced by this key."""
        return self.type == type_ and self.model in {None, model} and self.vc in {None, vc}

    def __str__(self) -> str:
        model = "" if self.model is None else ":" + _escape(self.model)
        vc = "" if self.vc is None else "@" + _escape(self.vc)
        return f"{self.type.value}{model}{vc}"


def parse(text: str) -> RatioKey | None:
    """The meaning of a key; None when it matches no usage. `str()` is the inverse."""
    match = _KEY.fullmatch(text)
    if match is None or match["type"] not in _TYPES:
        return None
    return RatioKey(
        type=ResourceType(match["type"]),
        model=_unescape(match["model"]),
        vc=_unescape(match["vc"]),
    )


def most_specific(keys: Iterable[RatioKey]) -> RatioKey | None:
    """The key that decides among those that cover the same usage."""
    return max(keys, key=lambda key: key.specificity, default=None)


def why_nothing(text: str) -> str:
    """One sentence on why a key that `parse` refuses matches no usage, and what to write."""
    head = re.split(r"[:@]", text, maxsplit=1)[0]
    if head in _TYPES:
        return (
            "after the type comes `:model`, `@vc` or both; inside a name write "
            r"`\:` for `:`, `\@` for `@` and `\\` for `\`"
        )
    if head.strip().lower() in _TYPES:
        return f"types are lower-case without blanks: write `{head.strip().lower()}`"
    return f"no usage type is called so; the types are {', '.join(sorted(_TYPES))}"


def why_unstorable(text: str) -> str | None:
    """Why a text cannot be a ratio's key at all; None when it can."""
    if not text:
        return "must not be empty"
    if len(text) > MAX_KEY_LENGTH:
        return f"must have at most {MAX_KEY_LENGTH} characters"
    return "must not hold control characters" if _UNPRINTABLE.search(text) else None


def _escape(name: str) -> str:
    return re.sub(r"[\\:@]", r"\\\g<0>", name)


def _unescape(name: str | None) -> str | None:
    return None if name is None else re.sub(r"\\(.)", r"\1", name)
