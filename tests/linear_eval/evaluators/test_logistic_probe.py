from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from linear_eval.classifiers import training_rows
from linear_eval.evaluators import logistic_probe
from linear_eval.evaluators.logistic_probe import (
    LogisticProbeConfig,
    evaluate_logistic_probe,
    fit_logistic_path,
)
from linear_eval.features.table import FeatureTable
from linear_eval.system.errors import InputError
from tests.asking import ask


def blobs(rows: int, seed: int, classes: int = 5, noise: float = 2.0) -> FeatureTable:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (rows,), generator=generator)
    features = 2 * torch.eye(classes + 3)[labels]
    features = features + noise * torch.randn(features.shape, generator=generator) + 7
    return FeatureTable(features, labels, tuple(f"{seed}/{i}" for i in range(rows)))


def standardised(features: Tensor) -> Tensor:
    variance, mean = torch.var_mean(features.double(), dim=0, correction=0)
    return (features.double() - mean) / (variance + 1e-5 * variance.mean()).sqrt()


@pytest.mark.parametrize("decay", [1e-3, 0.1])
def test_every_point_of_the_path_is_the_optimum_that_scikit_learn_finds(decay: float) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is the oracle")
    table = blobs(300, seed=0)
    config = LogisticProbeConfig(weight_decays=(decay, 1.0), max_iterations=500, tolerance=1e-7)
    path = fit_logistic_path(
        [table.select(torch.arange(100)), table.select(torch.arange(100, 300))],
        config,
        num_classes=5,
    )
    oracle = linear_model.LogisticRegression(C=1 / (decay * 300), tol=1e-10, max_iter=10_000)
    x = standardised(table.features).numpy()
    oracle.fit(x, table.labels.numpy())
    [logits] = path.in_chunks(table.features)
    expected = torch.from_numpy(oracle.predict_proba(x))
    assert torch.allclose(logits[:, 0].softmax(dim=0).T.double(), expected, atol=2e-4)
    # the other end of the path is another classifier
    assert not torch.allclose(logits[:, 1].softmax(dim=0).T.double(), expected, atol=2e-2)


def test_few_rows_of_wide_features_have_the_optimum_that_scikit_learn_finds() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is the oracle")
    table, decay = blobs(60, seed=0), 0.01
    wide = torch.randn(8, 200, generator=torch.Generator().manual_seed(1))
    table = replace(table, features=torch.tanh(table.features @ wide / 20))
    few = table.select(torch.arange(40))
    config = LogisticProbeConfig(weight_decays=(decay,), max_iterations=500, tolerance=1e-7)
    path = fit_logistic_path([few], config, num_classes=5)
    assert path.weight.shape == (5, 1, 200)
    oracle = linear_model.LogisticRegression(C=1 / (decay * 40), tol=1e-10, max_iter=10_000)
    variance, mean = torch.var_mean(few.features.double(), dim=0, correction=0)
    scale = (variance + 1e-5 * variance.mean()).sqrt()
    oracle.fit(((few.features.double() - mean) / scale).numpy(), few.labels.numpy())
    [logits] = path.in_chunks(table.features)
    expected = oracle.predict_proba(((table.features.double() - mean) / scale).numpy())
    found = logits[:, 0].softmax(dim=0).T.double()
    assert torch.allclose(found, torch.from_numpy(expected), atol=1e-3)


@pytest.mark.parametrize("decay", [1e-4, 1e-3, 0.1])
def test_a_decay_fitted_alone_is_that_point_of_the_path(decay: float) -> None:
    table = blobs(300, seed=0)
    config = LogisticProbeConfig(weight_decays=(1e-4, 1e-3, 0.01, 0.1), tolerance=1e-6)
    whole = fit_logistic_path([table], config, num_classes=5)
    alone = fit_logistic_path([table], replace(config, weight_decays=(decay,)), num_classes=5)
    number = config.weight_decays.index(decay)
    assert torch.allclose(alone.weight[:, 0], whole.weight[:, number], atol=1e-3)
    assert torch.allclose(alone.bias[:, 0], whole.bias[:, number], atol=1e-3)


def test_weak_decays_begin_where_the_strong_ones_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    table = blobs(300, seed=0)
    seen: list[int] = []
    evaluate = logistic_probe._CrossEntropy.__call__

    def counted(self: Any, points: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(len(points))
        return evaluate(self, points, numbers)

    monkeypatch.setattr(logistic_probe._CrossEntropy, "__call__", counted)
    fit_logistic_path([table], LogisticProbeConfig(), num_classes=5)
    together, seen[:] = sum(seen), []
    for decay in LogisticProbeConfig().weight_decays:
        alone = LogisticProbeConfig(weight_decays=(decay,))
        fit_logistic_path([table], alone, num_classes=5)
    assert together < 0.9 * sum(seen)


@pytest.mark.parametrize(
    ("module", "limit"), [(training_rows, "_HELD_BYTES"), (logistic_probe, "_UNKNOWNS")]
)
def test_rows_read_from_their_table_and_decays_fitted_apart_change_nothing(
    module: ModuleType, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = blobs(300, seed=0)
    config = LogisticProbeConfig(weight_decays=(1e-3, 0.01, 0.1), tolerance=1e-6)
    whole = fit_logistic_path([table], config, num_classes=5)
    monkeypatch.setattr(module, limit, 1)
    monkeypatch.setattr(logistic_probe, "_ROW_BYTES", 4 * 8 * 70)  # 70 rows at once
    again = fit_logistic_path([table], config, num_classes=5)
    assert torch.allclose(again.weight, whole.weight, atol=1e-3)
    assert torch.allclose(again.bias, whole.bias, atol=1e-3)


def test_train_chooses_and_test_is_judged_once() -> None:
    train, holdout, test = blobs(400, seed=0), blobs(100, seed=1), blobs(200, seed=2)
    config = LogisticProbeConfig(weight_decays=(1e-4, 0.05, 100.0))
    found = ask(evaluate_logistic_probe, train, holdout, test, config)
    assert found.notes["logistic_probe/weight_decay"] in (1e-4, 0.05)
    assert found.notes["logistic_probe/chosen_on"] == "hold-out"
    assert set(found.metrics) == {
        f"logistic_probe/{name}" for name in ("top1", "top5", "mean_per_class")
    }
    alone = replace(config, weight_decays=(float(found.notes["logistic_probe/weight_decay"]),))
    refitted = fit_logistic_path([train, holdout], alone, num_classes=5).only(0)
    [logits] = refitted.in_chunks(test.features)
    right = (logits[:, 0].argmax(dim=0) == test.labels).double()
    assert found.metrics["logistic_probe/top1"] == 100 * float(right.mean())
    assert 30 < found.metrics["logistic_probe/top1"] < 90


def test_the_edge_of_the_path_warns() -> None:
    train, holdout = blobs(400, seed=0), blobs(100, seed=1)
    config = LogisticProbeConfig(weight_decays=(10.0, 100.0))
    found = ask(evaluate_logistic_probe, train, holdout, holdout, config)
    assert "weight decay 10 is at the edge" in str(found.notes["logistic_probe/warning"])


def test_features_that_are_not_finite_are_named() -> None:
    train, test = blobs(400, seed=0), blobs(50, seed=1)
    test.features[3, 2] = torch.nan
    with pytest.raises(InputError, match=r"^test features: 1 of 50 .* row 3,"):
        ask(evaluate_logistic_probe, train, train, test, LogisticProbeConfig())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("weight_decays", ()),
        ("weight_decays", (0.0,)),
        ("weight_decays", (0.1, 0.01)),
        ("max_iterations", 0),
        ("tolerance", 0.0),
    ],
)
def test_impossible_settings_are_named(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{key}: "):
        LogisticProbeConfig(**{key: value})
