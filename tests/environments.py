"""A virtual environment for one test, which shares all packages with that of the tests.

`make run` leaves links to its configuration in its environment, by which commands without
`--config` find it: what other tests start beside it must not.
"""

import sys
import sysconfig
import venv
from pathlib import Path

from tests.conftest import CHECKOUT


def make_environment(folder: Path) -> Path:
    """Make it in `folder`, as `make VENV=folder` would have it."""
    venv.create(folder, symlinks=True)
    folder.chmod(0o755)
    ours = sysconfig.get_paths()["purelib"]
    theirs = sysconfig.get_paths("venv", vars={"base": str(folder)})["purelib"]
    Path(theirs, "shared.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    for program in (Path(sys.prefix) / "bin").iterdir():
        place = folder / "bin" / program.name
        if program.name.startswith("nodemeter"):
            _, _, rest = program.read_text().partition("\n")
            place.write_text(f"#!{folder}/bin/python3\n{rest}")
            place.chmod(0o755)
        elif not place.exists():
            place.symlink_to(program)
    (folder / ".made-in").write_text(f"{CHECKOUT}\n")
    for stamp in (".run-stamp", ".dev-stamp"):
        (folder / stamp).touch()
    return folder
