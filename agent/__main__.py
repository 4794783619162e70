"""The `nodemeter-agent` command. Imports nothing before it knows what is wanted."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    ahead = _config_ahead(words)
    if words[ahead : ahead + 1] == ["exec"]:
        from agent.launch import main as launch  # noqa: PLC0415  it has to start in 20 ms

        return launch([*words[:ahead], *words[ahead + 1 :]])
    from agent.cli import main as command  # noqa: PLC0415  `exec` does without all of this

    return command(words)


def _config_ahead(words: Sequence[str]) -> int:
    """How many words before the command are a --config."""
    if words and words[0] == "--config":
        return 2
    return 1 if words and words[0].startswith("--config=") else 0


if __name__ == "__main__":
    sys.exit(main())
