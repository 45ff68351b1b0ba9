"""A linear classifier on frozen features; the hold-out chooses its learning rate.

Shapes: M images, D feature width, C classes, L learning rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from linear_eval.errors import InputError
from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.feature_rows import require_finite
from linear_eval.features import FeatureTable
from linear_eval.linear_classifiers import LinearClassifiers, SgdConfig, fit_linear_classifiers

_HALF_DECADES = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True, kw_only=True)
class LinearProbeConfig(SgdConfig):
    """A linear probe by SGD.

    Attributes:
        learning_rates: rising, per 256 images; of several, the hold-out chooses one.
    """

    learning_rates: tuple[float, ...] = _HALF_DECADES

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        rates = list(self.learning_rates)
        if not rates or not all(0 < rate < math.inf for rate in rates):
            raise ValueError(f"learning_rates: must be numbers > 0, got {rates}")
        if rates != sorted(set(rates)):
            raise ValueError(f"learning_rates: must rise, got {rates}")


def evaluate_linear_probe(
    train: FeatureTable,
    holdout: FeatureTable | None,
    test: FeatureTable,
    config: LinearProbeConfig,
    *,
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Choose the learning rate on the hold-out, refit on all of train, evaluate test once.

    Args:
        train: features (M, D), labels >= 0.
        holdout: the part of train that chooses; may be None if there is one rate only.
        test: an image of a class that train and hold-out lack counts as missed.
        config: the probe.
        device: where to compute; the order of images is the same everywhere.

    Returns:
        `linear_probe/top1`, `/top5` (from five classes on) and `/mean_per_class` (over the classes
        in test) in percent; notes: `linear_probe/learning_rate`, `/holdout_top1`, and warnings.

    Raises:
        InputError: the hold-out is missing, or a feature is not finite.
    """
    for name, table in (("train", train), ("hold-out", holdout), ("test", test)):
        if table is not None:
            require_finite(table.features, f"{name} features")
    everything = train if holdout is None else _joined(train, holdout)
    num_classes = int(everything.labels.max()) + 1
    rate, notes = choose_learning_rate(
        train, holdout, config, num_classes=num_classes, device=device
    )
    probe = fit_linear_classifiers(
        everything.features,
        everything.labels,
        config,
        rates=(rate,),
        num_classes=num_classes,
        device=device,
    )
    notes |= _class_notes(everything.labels, test.labels)
    ranked = _ranked_classes(probe, test)
    hits = (ranked == test.labels[:, None]).double()
    scores = {"linear_probe/top1": hits[:, 0]}
    if hits.shape[1] == 5:
        scores["linear_probe/top5"] = hits.sum(dim=1)
    metrics = {name: 100 * float(score.mean()) for name, score in scores.items()}
    metrics["linear_probe/mean_per_class"] = mean_per_class(hits[:, 0], test.labels)
    return Evaluation(
        metrics=metrics,
        scores=scores,
        predictions={"linear_probe": ranked[:, 0]},
        notes={f"linear_probe/{name}": note for name, note in notes.items()},
    )


def mean_per_class(right: Tensor, labels: Tensor) -> float:
    """The mean of `right` (M,) within each class of `labels` (M,), averaged, in percent."""
    classes, class_of = labels.unique(return_inverse=True)
    sums = torch.zeros(len(classes), dtype=torch.float64).index_add_(0, class_of, right.double())
    return 100 * float((sums / class_of.bincount()).mean())


def choose_learning_rate(
    train: FeatureTable,
    holdout: FeatureTable | None,
    config: LinearProbeConfig,
    *,
    num_classes: int,
    device: torch.device | str = "cpu",
) -> tuple[float, dict[str, float | str]]:
    """The rate whose probe, fitted on train, is best on the hold-out; ties by the lower loss.

    Returns:
        The rate, and notes: `learning_rate`, `holdout_top1`, and `warning` at the grid's edge.

    Raises:
        InputError: there are several rates and no hold-out.
    """
    rates = config.learning_rates
    if len(rates) == 1:
        return rates[0], {"learning_rate": rates[0]}
    if holdout is None or not len(holdout.labels):
        raise InputError(
            "data.holdout: empty, expected a part of train to choose the probe's learning rate on; "
            "set data.holdout=0.1, or a single linear_probe.learning_rates"
        )
    probes = fit_linear_classifiers(
        train.features, train.labels, config, rates=rates, num_classes=num_classes, device=device
    )
    right, loss = _right_and_loss(probes, holdout)
    # the answers of a diverged probe (its loss is infinite) are no answers, even if right
    best = max(range(len(rates)), key=lambda n: (math.isfinite(loss[n]), right[n], -loss[n]))
    notes: dict[str, float | str] = {
        "learning_rate": rates[best],
        "holdout_top1": 100 * right[best] / len(holdout.labels),
    }
    if best in (0, len(rates) - 1):
        notes["warning"] = (
            f"the chosen learning rate {rates[best]:g} is at the edge of the grid "
            f"({rates[0]:g} to {rates[-1]:g}); widen linear_probe.learning_rates"
        )
    return rates[best], notes


def _right_and_loss(
    probes: LinearClassifiers, table: FeatureTable
) -> tuple[list[int], list[float]]:
    """Number of right answers, and sum of the losses, of every probe (a diverged one: infinite)."""
    right = torch.zeros(probes.bias.shape[1], dtype=torch.int64)
    loss = torch.zeros(probes.bias.shape[1], dtype=torch.float64)
    start = 0
    for logits in probes.in_chunks(table.features):
        labels = table.labels[start : start + logits.shape[2]].to(logits.device)
        start += len(labels)
        right += (logits.argmax(dim=0) == labels).sum(dim=1).cpu()
        of_label = logits.log_softmax(dim=0).gather(0, labels.expand(1, len(right), -1))
        loss -= of_label[0].double().sum(dim=1).cpu()
    return right.tolist(), loss.nan_to_num(nan=math.inf).tolist()


def _ranked_classes(probe: LinearClassifiers, test: FeatureTable) -> Tensor:
    """The (at most) five best classes of a single probe (M, 5), best first; ties by class."""
    return torch.cat(
        [
            logits[:, 0].sort(dim=0, descending=True, stable=True).indices[:5].T.cpu()
            for logits in probe.in_chunks(test.features)
        ]
    )


def _class_notes(train_labels: Tensor, test_labels: Tensor) -> dict[str, float | str]:
    """Name, by their numbers, the classes that only one side has."""
    train, test = set(train_labels.tolist()), set(test_labels.tolist())
    sides = {"classes_only_in_test": test - train, "classes_only_in_train": train - test}
    return {
        name: ", ".join(map(str, sorted(classes))) for name, classes in sides.items() if classes
    }


def _joined(first: FeatureTable, second: FeatureTable) -> FeatureTable:
    return FeatureTable(
        features=torch.cat([first.features, second.features]),
        labels=torch.cat([first.labels, second.labels]),
        ids=first.ids + second.ids,
    )
