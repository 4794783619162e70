"""What npu-smi printed on machines that have NPUs."""

from pathlib import Path

_FOLDER = Path(__file__).parent / "data"


def output(name: str) -> str:
    """One of the files in data/."""
    return (_FOLDER / f"{name}.txt").read_text()


def all_outputs() -> list[str]:
    return [path.read_text() for path in sorted(_FOLDER.iterdir())]
