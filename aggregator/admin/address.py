"""Where the aggregator is looked for when nobody says: where this machine's one listens."""

import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

Toml: TypeAlias = "str | int | float | bool | list[Toml] | dict[str, Toml]"

DEFAULT_URL = "http://127.0.0.1:8080"

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - read, not bound


def config_files(environ: Mapping[str, str]) -> Sequence[Path]:
    """The configurations that may tell, the nearest first: a `make run`'s, the system's."""
    files = [Path("/etc/nodemeter/aggregator.toml")]
    if sys.prefix != sys.base_prefix:
        files.insert(0, Path(sys.prefix) / "etc/nodemeter/aggregator.toml")
    if state_dir := environ.get("NODEMETER_STATE_DIR"):
        files.insert(0, Path(state_dir) / "aggregator.toml")
    return files


def default_url(files: Sequence[Path]) -> str:
    """The URL by the first file that can be read and says one, else the default."""
    for file in files:
        try:
            config: dict[str, Toml] = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        http = config.get("http", {})
        if not isinstance(http, dict):
            continue
        host, port = http.get("host", "127.0.0.1"), http.get("port", 8080)
        if isinstance(host, str) and isinstance(port, int):
            host, scheme = _ANY.get(host, host), "https" if http.get("tls_cert") else "http"
            return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    return DEFAULT_URL
