"""What `linear-eval run` says of a backbone, on the hold-out or on the test images; kept on disk.

Shapes: M judged images.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from linear_eval.backbones.opened import open_backbone
from linear_eval.evaluation.config import PIXELS, RANDOM, EvaluateConfig
from linear_eval.evaluation.run import run
from linear_eval.results.intervals import Array
from linear_eval.results.per_image import read_per_image
from linear_eval.results.results_file import RESULTS_FILE, Results, read_results
from linear_eval.strict_config.reader import parse_config
from linear_eval.system.screen import say, silenced
from ssl_bf.scan.scan import IMAGES
from ssl_bf.worth.plan import Plan

JUDGED = "judged"
KNN = "knn/k=20/top1"
ALL_LABELS = "logistic_probe/top1"
_K = 20
_DECAYS = (1e-4, 1e-3, 0.01, 0.1, 1.0)
_DECAYS_OF_FEW = (1e-3, 0.03, 1.0)  # more take long on raw pixels


def with_labels(count: int) -> str:
    """The metric with so many labels per class."""
    return f"low_shot/n={count}/top1"


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Judges backbones of one contest.

    Attributes:
        output: of the contest.
        plan: of it.
    """

    output: Path
    plan: Plan

    def look(
        self,
        name: str,
        backbone: str,
        part: str,
        *,
        probes: bool,
        budgets: Sequence[int] = (),
        draws: int = 1,
        seed: int = 0,
    ) -> Results:
        """Judge, or read what was found before.

        Args:
            name: of the folder of results.
            backbone: a file, `timm:NAME`, pixels or random.
            part: holdout or test.
            probes: whether a probe with all labels is fitted, besides k-NN.
            budgets: labels per class of further probes.
            draws: of these labels.
            seed: of `random`.

        Raises:
            InputError: the backbone or an image cannot be read.
        """
        path = self.output / JUDGED / part / name / RESULTS_FILE
        if path.is_file():
            return read_results(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        say(f"judge {name} on {part}")
        evaluators = ["knn"] + ["logistic_probe"] * probes + ["low_shot"] * bool(budgets)
        size = self._size(backbone)
        found: dict[str, Any] = {
            "data": {
                "name": "image_folder",
                "root": str(self.output / IMAGES),
                "test_folder": part,
                "holdout": 0.1,
            },
            "backbone": backbone,
            "evaluators": evaluators,
            "knn": {"k": [_K]},
            "logistic_probe": {"weight_decays": list(_DECAYS), "max_iterations": 100},
            "image_size": size,
            "features": {"folder": str(self.output / "features")},
            "seed": seed,
            "output": str(path),
        }
        if budgets:
            found["low_shot"] = {
                "fractions": [],
                "images_per_class": list(budgets),
                "draws": draws,
                "probe": {"weight_decays": list(_DECAYS_OF_FEW), "max_iterations": 100},
            }
        if backbone == RANDOM:
            found["architecture"] = self.plan.setting.architecture
        config = parse_config(EvaluateConfig, found).value
        log = path.with_name("judge.log")
        with log.open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file), silenced():
            run(config, [], overwrite=True)
        return read_results(path)

    def _size(self, backbone: str) -> int:
        """That the backbone was trained at."""
        if backbone in (PIXELS, RANDOM):
            return self.plan.setting.size
        return open_backbone(backbone).info.image_size


def scores_of(results: Results, metric: str) -> Array | None:
    """(M,) in [0, 1], in the order of the images' names; None where the metric was not asked."""
    answers = read_per_image(results.path, results.per_image)
    found = answers.scores[answers.judged].get(metric)
    return None if found is None else found[np.argsort(answers.ids)]
