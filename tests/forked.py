"""Commands in a fork of the test's process: torch is loaded, so each costs what it does itself."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

# What the commands import would be imported anew in each fork.
import ssl_bf.build
import ssl_bf.cli
import ssl_bf.commands.pretrain
import ssl_bf.ranks.processes
import ssl_bf.run.begun
import ssl_bf.train
from linear_eval.cli import main as linear_eval_main
from linear_eval.system.interruption import hear

MAINS = {"ssl-bf": ssl_bf.cli.main, "linear-eval": linear_eval_main}


def ended(act: Callable[[], int], errors: Path) -> int:
    """Exit code of a fork that runs `act`, minus the signal that killed it.

    Args:
        act: returns the code.
        errors: file that takes the standard error.
    """
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            os.dup2(2, 1)
            # closefd: who puts another in its place would close the descriptor
            sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
            code = act()
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(OSError):
                sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def command(words: Sequence[str], errors: Path, before: Callable[[], None] = lambda: None) -> int:
    """Exit code of a command in a fork.

    Args:
        words: such as ["ssl-bf", "resume", "run"].
        errors: file that takes what it says.
        before: is called in the fork first.
    """

    def act() -> int:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        hear()
        before()
        return MAINS[words[0]](list(words[1:]))

    return ended(act, errors)
