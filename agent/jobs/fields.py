"""Takes typed values out of a JSON object and collects what is wrong with them.

Knows types and bounds, not what a job is. Every take returns a usable value; whether the
object was right, `problems` says.
"""

import re
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from reprlib import Repr
from typing import TypeAlias, TypeVar

from agent.model import DeviceShare, ResourceType

_MAX_TEXT = 256
_MAX_PATH = 4096
_MAX_LIST = 1024
_MAX_PID = 1 << 22

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OLDEST = datetime(2000, 1, 1, tzinfo=UTC)
_NEWEST = datetime(2200, 1, 1, tzinfo=UTC)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_TEXT_RULE = f"of 1 to {_MAX_TEXT} characters without control characters"
_DEVICE = re.compile(r"(GPU|MIG|NPU)-[0-9A-Za-z:.-]{1,120}")  # an id may be a PCI address
_NESTED = Repr()  # bounded in depth and length: `repr` itself fails where lists are deep
_NESTED.maxlevel = 3


Json: TypeAlias = "bool | int | Decimal | str | list[Json] | dict[str, Json] | None"
"""What a JSON document holds; its numbers are exact."""

_Item = TypeVar("_Item")


class Fields:
    """One JSON object, whose keys are asked for one by one."""

    def __init__(self, raw: dict[str, Json]) -> None:
        """Take the parsed object; its numbers are int or Decimal."""
        self._raw = raw
        self._asked: list[str] = []
        self._problems: list[str] = []

    def complain(self, key: str, problem: str) -> None:
        """Add a fault of `key`."""
        self._problems.append(f"{key}: {problem}")

    def problems(self) -> Sequence[str]:
        """Everything found wrong; keys that nobody asked for are wrong."""
        known = ", ".join(self._asked)
        unknown = (_show(key) for key in self._raw if key not in self._asked)
        return [*self._problems, *(f"{key}: unknown key; known are {known}" for key in unknown)]

    def has(self, key: str) -> bool:
        """Whether the key is there, null or not."""
        return key in self._raw

    def text(self, key: str, default: str | None = None, *, may_be_empty: bool = False) -> str:
        """Take a text that fits a bill; without a default it must be there."""
        value = self._take(key)
        if value is None and default is not None:
            return default
        if value is None:
            self.complain(key, "is missing; give a text")
        elif isinstance(value, str) and (value or may_be_empty) and _fits(value):
            return value
        else:
            self.complain(key, f"must be a text {_TEXT_RULE}, not {_show(value)}")
        return default or "?"

    def nullable_text(self, key: str) -> str | None:
        """Take a text that must be there, but may be null."""
        if self.has(key) and self._take(key) is None:
            return None
        return self.text(key)

    def uuid(self, key: str) -> str | None:
        """Take a uuid, in its usual form."""
        value = self._take(key)
        if value is None:
            return None
        try:
            if isinstance(value, str) and len(value) == 36:
                return str(uuid.UUID(value))
        except ValueError:
            pass
        self.complain(key, f"must be a uuid of 36 characters, not {_show(value)}")
        return None

    def number(self, key: str, most: int, unit: str) -> Decimal:
        """Take a number from 0 to `most`; nothing = 0."""
        value = self._take(key)
        if value is None:
            return Decimal(0)
        if isinstance(value, int | Decimal) and not isinstance(value, bool) and 0 <= value <= most:
            return Decimal(value)
        self.complain(key, f"must be a number of {unit} from 0 to {most}, not {_show(value)}")
        return Decimal(0)

    def whole(self, key: str, most: int, unit: str) -> int:
        """Take a whole number from 0 to `most`; nothing = 0."""
        value = self.number(key, most, unit)
        if value != value.to_integral_value():
            self.complain(key, f"must be whole {unit}, not {_show(value)}")
        return int(value)

    def time(self, key: str) -> int | None:
        """Take an instant, in milliseconds since the epoch, rounded down; None = not there."""
        value = self._take(key)
        if value is None:
            return None
        instant = _parse_time(value) if isinstance(value, str) else None
        if instant is not None and _OLDEST <= instant < _NEWEST:
            return (instant - _EPOCH) // timedelta(milliseconds=1)
        rule = "must be a time such as 2026-02-06T04:00:00.123Z, with Z or an offset"
        self.complain(key, f"{rule}, not {_show(value)}")
        return None

    def path(self, key: str) -> str | None:
        """Take an absolute path without detours."""
        value = self._take(key)
        return None if value is None else self._path(key, value)

    def paths(self, key: str) -> tuple[str, ...]:
        """Take a list of different absolute paths."""
        return self._list(key, lambda item: self._path(key, item))

    def pids(self, key: str) -> tuple[int, ...]:
        """Take a list of different process ids; 1 would be the whole machine."""
        return self._list(key, lambda item: self._pid(key, item))

    def devices(self, key: str) -> tuple[DeviceShare, ...]:
        """Take a list of different devices: a GPU's index, or a vendor's uuid; models unknown."""
        return self._list(key, lambda item: self._device(key, item))

    def _take(self, key: str) -> Json:
        if key not in self._asked:
            self._asked.append(key)
        return self._raw.get(key)

    def _list(self, key: str, take: Callable[[Json], _Item | None]) -> tuple[_Item, ...]:
        value = self._take(key)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > _MAX_LIST:
            self.complain(key, f"must be a list of at most {_MAX_LIST}, not {_show(value)}")
            return ()
        taken = [item for item in map(take, value) if item is not None]
        if len(set(taken)) != len(taken):
            self.complain(key, "holds something twice; name each once")
        return tuple(taken)

    def _path(self, key: str, value: Json) -> str | None:
        if isinstance(value, str) and len(value) <= _MAX_PATH and not _CONTROL.search(value):
            parts = value.split("/")
            if len(parts) > 1 and parts[0] == "" and not {"", ".", ".."} & set(parts[1:]):
                return value
        rule = "must be an absolute path without '.', '..', '//' or a slash at its end"
        self.complain(key, f"{rule}, not {_show(value)}")
        return None

    def _pid(self, key: str, value: Json) -> int | None:
        if isinstance(value, int) and not isinstance(value, bool) and 1 < value <= _MAX_PID:
            return value
        self.complain(key, f"must hold process ids from 2 to {_MAX_PID}, not {_show(value)}")
        return None

    def _device(self, key: str, value: Json) -> DeviceShare | None:
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_LIST:
            return DeviceShare(type=ResourceType.GPU, id=str(value), model=None)
        if isinstance(value, str) and _DEVICE.fullmatch(value):
            kind = ResourceType.NPU if value.startswith("NPU-") else ResourceType.GPU
            return DeviceShare(type=kind, id=value, model=None)
        rule = "must hold GPU indexes (0, 1, …) or uuids (GPU-…, MIG-…, NPU-…)"
        self.complain(key, f"{rule}, not {_show(value)}")
        return None


def _fits(value: str) -> bool:
    """Short enough for every column, and harmless in a log, a table and a page."""
    return len(value) <= _MAX_TEXT and not _CONTROL.search(value)


def _parse_time(value: str) -> datetime | None:
    """Read RFC 3339; digits beyond microseconds are cut off."""
    match = _TIME.fullmatch(value)
    if not match:
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:  # the 30th of February
        return None


def _show(value: Json) -> str:
    """Quote a foreign value, shortened; `repr` leaves nothing that a terminal obeys."""
    if isinstance(value, list | dict):
        text = _NESTED.repr(value)
    else:
        text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
