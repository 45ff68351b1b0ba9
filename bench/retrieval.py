"""mAP@R: ours and pytorch-metric-learning's. Run: python -m bench.retrieval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.options import parse
from bench.rounds import compare, unit_classes
from linear_eval.search.exact import nearest_neighbours
from linear_eval.search.ranking import average_precision_at_r


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Compare."""
    options = parse("mAP@R against pytorch-metric-learning's AccuracyCalculator.", argv)
    rows, width, classes = (900, 32, 30) if options.quick else (20_000, 512, 200)
    features, labels = (x.to(options.device) for x in unit_classes(rows, width, classes, seed=1))
    variants: dict[str, Callable[[], float]] = {
        "ours": lambda: our_map_at_r(features, labels),
        "pytorch-metric-learning": lambda: their_map_at_r(features, labels),
    }
    return compare(
        "retrieval",
        variants,
        check=same_score,
        options=options,
        facts={"rows": rows, "width": width, "classes": classes},
        flop=2.0 * rows * rows * width,
    )


def same_score(ours: float, theirs: float) -> str:
    """Equal to 1e-6."""
    return "" if abs(ours - theirs) <= 1e-6 else f"mAP@R {ours:.8f} and {theirs:.8f}"


def our_map_at_r(features: Tensor, labels: Tensor) -> float:
    """Search of the largest R neighbours, itself excluded."""
    num_relevant = torch.bincount(labels)[labels] - 1
    k = int(num_relevant.max())
    _, index = nearest_neighbours(features, features, k, exclude_self=True)
    relevant = labels[index] == labels[:, None]
    return float(average_precision_at_r(relevant, num_relevant).mean())


def their_map_at_r(features: Tensor, labels: Tensor) -> float:
    """With the defaults: faiss searches, by euclidean distance."""
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    name = "mean_average_precision_at_r"
    calculator = AccuracyCalculator(include=(name,), k="max_bin_count", device=features.device)
    return float(calculator.get_accuracy(features, labels)[name])


if __name__ == "__main__":
    main()
