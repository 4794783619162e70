"""This process's open descriptors, told apart: threads of other tests open and close their own."""

from contextlib import suppress
from pathlib import Path


def open_descriptors(name: Path | str) -> int:
    """How many of them lead to `name`, to what lies below it, or are of that kind (`[pidfd]`)."""
    return sum(
        link == str(name) or link.startswith(f"{name}/") or link.endswith(f":{name}")
        for link in _links()
    )


def _links() -> list[str]:
    links: list[str] = []
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # it was closed meanwhile
            links.append(str(path.readlink()))
    return links
