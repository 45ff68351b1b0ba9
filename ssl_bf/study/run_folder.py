"""One run of a study on the disk: how far it is, and its numbers. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from linear_eval.results.results_file import RESULTS_FILE, read_results
from linear_eval.system.atomic_file import file_sha256
from linear_eval.system.errors import InputError

Stage = Literal["missing", "begun", "trained", "judged"]

RUNS = "runs"
TRIALS = "learning_rates"
LOGS = "logs"
BACKBONE = "backbone.safetensors"
HOLDOUT_METRIC = "monitor/knn_top1"
_FEATURE_STD = "feature_std/stream_0"


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """One arm with one seed, in a run directory of its own.

    Attributes:
        study: folder of the study.
        arm: its name.
        seed: of initial values, views and order.
        factor: of the arm's learning rate, in the search for it; None: a run of the study itself.
    """

    study: Path
    arm: str
    seed: int
    factor: float | None = None

    @property
    def name(self) -> str:
        """In words."""
        tried = "" if self.factor is None else f" learning rate x {self.factor:g}"
        return f"{self.arm}{tried} seed {self.seed}"

    @property
    def directory(self) -> Path:
        """Of the run."""
        if self.factor is None:
            return self.study / RUNS / self.arm / f"seed-{self.seed}"
        tried = f"x{self.factor:g}"
        return self.study / TRIALS / self.arm / tried / f"seed-{self.seed}"

    @property
    def log(self) -> Path:
        """What its commands print."""
        return self.study / LOGS / f"{self.name.replace(' ', '_')}.log"

    @property
    def has_checkpoint(self) -> bool:
        """Whether it can go on."""
        return any(self.directory.glob("checkpoints/step-[0-9]*/MANIFEST.json"))

    def stage(self) -> Stage:
        """How far it is."""
        if not (self.directory / "config.yaml").is_file():
            return "missing"
        status = self._status()
        backbone = self.directory / BACKBONE
        if status.get("state") != "finished" or not backbone.is_file():
            return "begun"
        if not (self.directory / RESULTS_FILE).is_file():
            return "trained"
        judged = read_results(self.directory).backbone.get("sha256")
        return "judged" if judged == file_sha256(backbone) else "trained"

    def steps(self) -> tuple[int, int]:
        """Made, and of how many; (0, 0) before it began."""
        status = self._status()
        return int(status.get("step", 0)), int(status.get("total_steps", 0))

    def why_it_stopped(self) -> str:
        """In words; "" where it did not."""
        return str(self._status().get("reason", ""))

    def seconds(self) -> float:
        """Of training, of all its sessions together: each counts from its start."""
        total = latest = 0.0
        for line in self._lines():
            now = float(line.get("timing", {}).get("seconds", 0.0))
            total, latest = (total + latest, now) if now < latest else (total, now)
        return total + latest

    def holdout(self) -> float | None:
        """Percent of the hold-out that k-NN names rightly, at the end; None where nobody looked."""
        return self._last(HOLDOUT_METRIC)

    def feature_std(self) -> float | None:
        """Spread of the plain projections in the last step that was logged: 0 is collapse."""
        return self._last(_FEATURE_STD)

    def metrics(self) -> dict[str, float]:
        """On the test images, in percent.

        Raises:
            InputError: it was not judged.
        """
        return read_results(self.directory).metrics

    def _last(self, key: str) -> float | None:
        values = [line[key] for line in self._lines() if line.get(key) is not None]
        return float(values[-1]) if values else None

    def _lines(self) -> Iterator[dict[str, Any]]:
        path = self.directory / "metrics.jsonl"
        if not path.is_file():
            return
        for text in path.read_bytes().splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue  # cut short by a killed process; `resume` drops it too
            if isinstance(line, dict):
                yield line

    def _status(self) -> dict[str, Any]:
        path = self.directory / "status.json"
        if not path.is_file():
            return {}
        try:
            found = json.loads(path.read_bytes())
        except ValueError as error:
            raise InputError(
                f"{path}: is damaged ({error}), expected the state of a run; delete the folder "
                f"{path.parent}, and the same command trains it again"
            ) from error
        return found if isinstance(found, dict) else {}


def runs_of(study: Path, arms: list[str], seeds: tuple[int, ...]) -> list[StudyRun]:
    """Every run, seed by seed: those that belong together are done together."""
    return [StudyRun(study=study, arm=arm, seed=seed) for seed in seeds for arm in arms]
