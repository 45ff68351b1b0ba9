"""The two commands of a run: train it (or go on with it), and judge its backbone."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssl_bf.study.run_folder import BACKBONE, StudyRun

CONFIGS = "configs"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One command of one run.

    Attributes:
        what: in one word.
        run: of whom.
        config: file of the arm's config, or of the evaluation.
        overrides: for it.
    """

    what: Literal["train", "judge"]
    run: StudyRun
    config: Path
    overrides: tuple[str, ...]

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.what} {self.run.name}"

    @property
    def goes_on(self) -> bool:
        """Whether it has something to go on from."""
        return self.what == "train" and self.run.has_checkpoint

    def is_done(self) -> bool:
        """Whether nothing is left of it."""
        done = ("trained", "judged") if self.what == "train" else ("judged",)
        return self.run.stage() in done

    def command(self) -> list[str]:
        """What does it as the folder is now: a run that has a checkpoint goes on."""
        directory = str(self.run.directory)
        if self.what == "judge":
            package, words = "linear_eval", ["run", str(self.config), "--overwrite"]
            words.append(f"backbone={self.run.directory / BACKBONE}")
        elif self.goes_on:
            return [sys.executable, "-m", "ssl_bf", "resume", directory]
        else:
            package, words = "ssl_bf", ["pretrain", str(self.config)]
            words += [f"run.directory={directory}", "run.overwrite=true"]
        return [sys.executable, "-m", package, *words, *self.overrides]
