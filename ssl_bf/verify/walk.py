"""A run that goes on with another number of processes, again and again, against one that never did.

The processes are forks of this one, which keeps the store that torchrun would keep for them.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from linear_eval.system.errors import EXIT_DONE, EXIT_STOPPED, RunFailed
from linear_eval.system.printable import aligned
from ssl_bf.run.checkpoint import published_steps
from ssl_bf.verify.lives import begin_fork, code_of, ended_badly
from ssl_bf.verify.same_runs import differences

_POLL_SECONDS = 0.001
_NUM_NAMED = 5  # differences in the message
Command = Callable[[Path], None]


def try_walk(command: Command, sizes: Sequence[int]) -> None:
    """Print a table of what came out.

    Args:
        command: trains in a directory, or goes on there.
        sizes: numbers of processes, with which the run goes on one after another.

    Raises:
        RunFailed: anything differs (both runs are kept), the run is too short for the walk, or ends
            by itself, and not well.
    """
    folder = Path(tempfile.mkdtemp(prefix="ssl-bf-verify-resume-"))
    keeps = False
    try:
        kinds: Any = torch.distributed  # names them without exporting them
        store = kinds.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        legs = _Legs(command, folder, store.port)
        legs.whole(folder / "whole")
        legs.walk(folder / "walked", sizes)
        found = differences(folder / "walked", folder / "whole", but=("world_size",))
        keeps = bool(found)
    finally:
        if not keeps:
            shutil.rmtree(folder, ignore_errors=True)
    if found:
        named = ", ".join(found[:_NUM_NAMED])
        raise RunFailed(
            f"after {len(sizes)} legs the run is not the one on one process: {len(found)} "
            f"differences ({named}); both runs are kept in {folder}"
        )
    rows = [
        ("processes of each leg", " ".join(map(str, sizes))),
        ("changes of their number", str(len(sizes) - 1)),
        ("tensors, logged numbers and bytes that differ", "0"),
    ]
    for line in aligned(("one process against several in turn", ""), rows):
        print(line)


class _Legs:
    """Starts the command in so many processes, and stops it once it has saved something new."""

    def __init__(self, command: Command, folder: Path, port: int) -> None:
        self._command, self._folder, self._port = command, folder, port
        self._attempts = 0

    def whole(self, directory: Path) -> None:
        """One process, to the end."""
        self._leg(directory, 1, stops=False)

    def walk(self, directory: Path, sizes: Sequence[int]) -> None:
        """Leg after leg; the last goes to the end of the run."""
        for number, size in enumerate(sizes, 1):
            is_last = number == len(sizes)
            if self._leg(directory, size, stops=not is_last) and not is_last:
                raise RunFailed(
                    f"the run ended in leg {number} of {len(sizes)}; make it longer, or have it "
                    "save more often (run.save_every)"
                )

    def _leg(self, directory: Path, size: int, *, stops: bool) -> bool:
        """Whether the run is done."""
        self._attempts += 1
        before = published_steps(directory)[:1]
        children: dict[int, int] = {}
        try:
            for rank in range(size):
                act = partial(self._act, directory, rank, size)
                children[rank] = begin_fork(act, self._printed(rank))
            codes = dict.fromkeys(children)
            asked = False
            while children:
                time.sleep(_POLL_SECONDS)
                if stops and not asked and 0 in children:
                    asked = published_steps(directory)[:1] != before
                    if asked:
                        os.kill(children[0], signal.SIGTERM)
                for rank, child in [*children.items()]:
                    if (code := code_of(child)) is not None:
                        del children[rank]
                        self._check(code, rank)
                        codes[rank] = code
        finally:
            for child in children.values():
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        return all(code == EXIT_DONE for code in codes.values())

    def _act(self, directory: Path, rank: int, size: int) -> None:
        """In a fork: what torchrun would say, and the command."""
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(size),
            LOCAL_WORLD_SIZE=str(size),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(self._port),
            TORCHELASTIC_USE_AGENT_STORE="True",
            TORCHELASTIC_RESTART_COUNT=str(self._attempts),
        )
        self._command(directory)

    def _check(self, code: int, rank: int) -> None:
        if code not in (EXIT_DONE, EXIT_STOPPED):
            raise ended_badly(code, self._printed(rank))

    def _printed(self, rank: int) -> Path:
        return self._folder / f"printed-{rank}"
