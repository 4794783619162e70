"""A fake npu-smi: prints the file that its arguments name, and notes when it began and ended."""

import shlex
from pathlib import Path

_SCRIPT = """#!/bin/sh
folder={folder}
name=$(printf %s "$*" | tr ' ' '_')
echo "begin $name" >> "$folder/log"
if [ -f "$folder/$name.sh" ]; then . "$folder/$name.sh"; fi
if [ ! -f "$folder/$name" ]; then echo "npu-smi: no answer to $*"; exit 1; fi
cat "$folder/$name"
echo "end $name" >> "$folder/log"
"""


class FakeSmi:
    """One on a machine of its own; `path` is the program."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "answers"
        self._folder.mkdir()
        program = folder / "npu-smi"
        program.write_text(_SCRIPT.format(folder=shlex.quote(str(self._folder))))
        program.chmod(0o755)
        self.path = str(program)
        self.environ = self._folder / "environ"

    def answer(self, arguments: str, text: str) -> None:
        """Print this from now on."""
        (self._folder / arguments.replace(" ", "_")).write_text(text)

    def fail(self, arguments: str) -> None:
        """Say that it cannot, and exit with 1."""
        (self._folder / arguments.replace(" ", "_")).unlink(missing_ok=True)

    def do_first(self, arguments: str, shell: str) -> None:
        """Run this before the answer."""
        (self._folder / (arguments.replace(" ", "_") + ".sh")).write_text(shell)

    def log(self) -> list[str]:
        """What began and ended, in this order."""
        log = self._folder / "log"
        return log.read_text().splitlines() if log.exists() else []

    def forget_log(self) -> None:
        (self._folder / "log").unlink(missing_ok=True)
