"""Linear probes at 13 learning rates: ours in one pass, 13 runs of SGD, L-BFGS.

Run: python -m bench.probe.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.options import parse
from bench.rounds import compare, unit_classes
from linear_eval.classifiers.linear_classifiers import fit_linear_classifiers
from linear_eval.classifiers.sgd_config import Hyperparameters, ProbeSgdConfig
from linear_eval.classifiers.training_rows import TrainingRows

CLASSES, BATCH, MOMENTUM = 10, 256, 0.9
RATES = tuple(10 ** (-3 + number / 4) for number in range(13))  # 0.001 to 1
TOLERANCE = 0.005  # of accuracy


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Compare by the accuracy of the best rate."""
    options = parse("Linear probes at 13 learning rates against SGD and L-BFGS.", argv)
    rows, width, epochs = (2000, 32, 2) if options.quick else (50_000, 512, 100)
    epochs = options.epochs or epochs
    table = unit_classes(rows, width, CLASSES, seed=1)
    test = unit_classes(5000, width, CLASSES, seed=2)
    train, held_out = (tuple(x.to(options.device) for x in each) for each in (table, test))

    def variants(epochs: int) -> dict[str, Callable[[], float]]:
        asking, truth = held_out
        found: dict[str, Callable[[], float]] = {
            "ours": lambda: best_accuracy(our_logits(train, asking, epochs), truth),
            "13 runs of SGD": lambda: best_accuracy(sgd_logits(train, asking, epochs), truth),
        }
        if options.device == "cpu":
            found["scikit-learn L-BFGS, one fit"] = lambda: lbfgs_accuracy(train, held_out)
        return found

    return compare(
        "probe",
        variants(epochs),
        check=same_accuracy,
        options=options,
        facts={"rows": rows, "width": width, "classes": CLASSES, "epochs": epochs},
        flop=4.0 * len(RATES) * CLASSES * rows * width * epochs,
        warm_up=lambda: [run() for run in variants(1).values()],
    )


def same_accuracy(ours: float, theirs: float) -> str:
    """As good, within what 5,000 test rows can tell."""
    return "" if ours >= theirs - TOLERANCE else f"accuracy {ours:.4f} and {theirs:.4f}"


def best_accuracy(logits: list[Tensor], labels: Tensor) -> float:
    """Of the rates."""
    return max(float((each.argmax(dim=1) == labels).double().mean()) for each in logits)


def our_logits(train: tuple[Tensor, ...], queries: Tensor, epochs: int) -> list[Tensor]:
    """All rates as one problem."""
    rows = TrainingRows.of([train[0]], train[0].device)
    problems = [Hyperparameters(rate) for rate in RATES]
    config = ProbeSgdConfig(epochs=epochs, batch_size=BATCH, momentum=MOMENTUM)
    fitted = fit_linear_classifiers(rows, train[1], config, problems=problems, num_classes=CLASSES)
    logits = torch.cat(list(fitted.in_chunks(queries)), dim=2)
    return [logits[:, number].T for number in range(len(RATES))]


def sgd_logits(train: tuple[Tensor, ...], queries: Tensor, epochs: int) -> list[Tensor]:
    """One run of torch's own SGD after another, on the same standardised features."""
    mean, std = train[0].mean(dim=0), train[0].std(dim=0)
    features, asking = (train[0] - mean) / std, (queries - mean) / std
    return [_sgd(features, train[1], rate, epochs)(asking).detach() for rate in RATES]


def lbfgs_accuracy(train: tuple[Tensor, ...], test: tuple[Tensor, ...]) -> float:
    """Logistic regression at scikit-learn's default regularisation, standardised features."""
    from sklearn.linear_model import LogisticRegression

    mean, std = train[0].mean(dim=0), train[0].std(dim=0)
    features, asking = (((x - mean) / std).numpy() for x in (train[0], test[0]))
    model = LogisticRegression(max_iter=1000).fit(features, train[1].numpy())
    return float(model.score(asking, test[1].numpy()))


def _sgd(features: Tensor, labels: Tensor, rate: float, epochs: int) -> nn.Linear:
    layer = nn.Linear(features.shape[1], CLASSES, device=features.device)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=rate, momentum=MOMENTUM)
    generator = torch.Generator().manual_seed(0)
    steps = math.ceil(len(labels) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    for _ in range(epochs):
        order = torch.randperm(len(labels), generator=generator).to(features.device)
        for batch in order.split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(layer(features[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return layer


if __name__ == "__main__":
    main()
