"""A task of a study that is any Python program: what starts and schedules tasks asks no more."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssl_bf.study.run_folder import StudyRun
from ssl_bf.study.tasks import Task

# Makes a file `begun`, works until it gets SIGTERM, then makes `saved`; the next time it is done.
SAVES = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
if (folder / "saved").exists():
    (folder / "done").touch()
    sys.exit(0)
def save(*_):
    (folder / "saved").touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
(folder / "starter").write_text(str(os.getppid()))
(folder / "begun").touch()
time.sleep(60)
"""


@dataclass(frozen=True, kw_only=True)
class AnyCommand(Task):
    """Done once the program has made a file `done` in the run's directory."""

    program: str = "pathlib.Path(sys.argv[1], 'done').touch()"

    def is_done(self) -> bool:
        return (self.run.directory / "done").exists()

    def command(self) -> list[str]:
        self.run.directory.mkdir(parents=True, exist_ok=True)
        text = f"import pathlib, sys\n{self.program}"
        return [sys.executable, "-c", text, str(self.run.directory)]


def any_command(
    folder: Path,
    program: str | None = None,
    *,
    seed: int = 0,
    what: Literal["train", "judge"] = "train",
) -> AnyCommand:
    run = StudyRun(study=folder, arm="any", seed=seed)
    given = {} if program is None else {"program": program}
    return AnyCommand(what=what, run=run, config=folder, overrides=(), **given)
