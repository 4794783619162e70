"""Ties the life of a child process to the thread that starts it.

Whoever supervises children may itself be killed; then the kernel sends them a signal, so that
nothing is left that nobody would ever stop.
"""

import shutil
import signal


def tied(number: signal.Signals) -> list[str]:
    """The words before a command that make the kernel send it `number` when its owner dies.

    The owner is the thread that starts the command: start from the main thread. Empty on a
    machine without setpriv(1); there a child outlives its owner.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return []
    return [setpriv, "--pdeathsig", number.name.removeprefix("SIG"), "--"]
