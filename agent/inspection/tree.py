"""Checks a saved tree before anything of it is read: whoever sent it may have made it to hurt."""

import os
import stat
from collections.abc import Iterator

from agent.errors import AgentError


def check_tree(root: str) -> None:
    """See that nothing below `root` can keep a reader waiting, as a pipe does.

    Raises:
        AgentError: something is neither a file nor a folder, nor a link to one.
    """
    for path in _entries(root):
        try:
            mode = os.stat(path).st_mode  # noqa: PTH116  a Path costs several times the system call
        except OSError:
            continue  # a link to nothing, or not for us: it cannot be opened either
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise AgentError(
                f"{path} is neither a file nor a folder, as all is in a tree that --save made; "
                "remove it"
            )


def _entries(root: str) -> Iterator[str]:
    for folder, _, names in os.walk(root):
        yield from (f"{folder}/{name}" for name in names)
