"""Logistic regression at seven weight decays: ours in one pass, scikit-learn one after another.

Run: python -m bench.logistic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.options import parse
from bench.rounds import compare, unit_classes
from linear_eval.evaluators.logistic_probe import LogisticProbeConfig, fit_logistic_path
from linear_eval.features.table import FeatureTable

CLASSES = 10
CONFIG = LogisticProbeConfig()
TOLERANCE, WORSE = 1e-4, 0.002  # of the loss, relative; of accuracy

Path = tuple[Tensor, Tensor]
"""Weights (L, C, D) and biases (L, C), on the CPU, of standardised features."""


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Compare by the loss that is minimised, and by accuracy, at every decay."""
    options = parse("Logistic regression along a path of weight decays.", argv)
    rows, width = (2000, 32) if options.quick else (50_000, 512)
    features, labels = unit_classes(rows, width, CLASSES, seed=1)
    asking, truth = unit_classes(5000, width, CLASSES, seed=2)
    variance, mean = torch.var_mean(features.double(), dim=0, correction=0)
    scale = (variance + 1e-5 * variance.mean()).rsqrt()
    train, test = (((x - mean) * scale).float() for x in (features, asking))
    table = FeatureTable(features.to(options.device), labels, tuple(map(str, range(rows))))
    variants: dict[str, Callable[[], Path]] = {
        "ours": lambda: our_path(table, options.device),
        "scikit-learn, warm starts": lambda: their_path(train, labels, warm_start=True),
        "scikit-learn, from zero": lambda: their_path(train, labels, warm_start=False),
    }

    def same_optima(ours: Path, theirs: Path) -> str:
        for number, decay in enumerate(CONFIG.weight_decays):
            losses = [loss(train, labels, path, number, decay) for path in (ours, theirs)]
            right = [accuracy(test, truth, path, number) for path in (ours, theirs)]
            if losses[0] > (1 + TOLERANCE) * losses[1] or abs(right[0] - right[1]) > WORSE:
                return f"decay {decay:g}: losses {losses}, accuracies {right}"
        return ""

    return compare(
        "logistic",
        variants,
        check=same_optima,
        options=options,
        facts={"rows": rows, "width": width, "classes": CLASSES, "decays": CONFIG.weight_decays},
        flop=0,  # iterations differ
    )


def loss(features: Tensor, labels: Tensor, path: Path, number: int, decay: float) -> float:
    """Mean cross-entropy and the penalty of the decay."""
    weight, bias = (each[number] for each in path)
    fit = F.cross_entropy(F.linear(features, weight, bias), labels)
    return float(fit + decay / 2 * weight.square().sum())


def accuracy(features: Tensor, labels: Tensor, path: Path, number: int) -> float:
    """In [0, 1]."""
    weight, bias = (each[number] for each in path)
    right = F.linear(features, weight, bias).argmax(dim=1) == labels
    return float(right.double().mean())


def our_path(table: FeatureTable, device: str) -> Path:
    """Standardising included."""
    path = fit_logistic_path([table], CONFIG, num_classes=CLASSES, device=device)
    return path.weight.transpose(0, 1).cpu(), path.bias.T.cpu()


def their_path(features: Tensor, labels: Tensor, *, warm_start: bool) -> Path:
    """From the largest decay to the smallest, to the same tolerance, of standardised features."""
    from sklearn.linear_model import LogisticRegression

    x, y = features.numpy(), labels.numpy()
    model = LogisticRegression(
        tol=CONFIG.tolerance, max_iter=CONFIG.max_iterations, warm_start=warm_start
    )
    found = []
    for decay in reversed(CONFIG.weight_decays):
        model.set_params(C=1 / (decay * len(x))).fit(x, y)
        found.append((torch.tensor(model.coef_), torch.tensor(model.intercept_)))
    weights, biases = zip(*reversed(found), strict=True)
    return torch.stack(weights).float(), torch.stack(biases).float()


if __name__ == "__main__":
    main()
