"""Where a checkout keeps its state: `.run/`, or as root a place that the database can reach."""

import hashlib
from pathlib import Path

from aggregator.store.embedded.account import choose_account
from aggregator.store.embedded.errors import EmbeddedError


def state_dir_of(checkout: Path, *, elsewhere: Path = Path("/var/lib")) -> Path:
    """The state directory of a checkout, made if it is missing.

    It is `.run/` in the checkout. Where root's checkout is closed to the account that PostgreSQL
    runs as, it is `<elsewhere>/nodemeter-<hash of the checkout's path>`, and `.run` points there.
    """
    pointer = checkout / ".run"
    if pointer.is_symlink():
        _make(pointer.resolve())
        return pointer.resolve()
    if choose_account().can_enter(checkout):
        _make(pointer)
        return pointer.resolve()
    if pointer.exists():
        raise EmbeddedError(
            f"{pointer} cannot be reached by the account that PostgreSQL runs as; move it away, "
            "or name another place in NODEMETER_STATE_DIR"
        )
    digest = hashlib.sha256(str(checkout.resolve()).encode()).hexdigest()[:12]
    place = elsewhere / f"nodemeter-{digest}"
    _make(place)
    pointer.symlink_to(place)
    return place


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
