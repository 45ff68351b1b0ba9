import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from linear_eval.classifiers import linear_classifiers, training_rows
from linear_eval.classifiers.linear_classifiers import LinearClassifiers, fit_linear_classifiers
from linear_eval.classifiers.sgd_config import Hyperparameters, ProbeSgdConfig
from linear_eval.classifiers.training_rows import TrainingRows


def problem(
    rows: int = 120, width: int = 6, classes: int = 4, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Overlapping classes: no linear classifier separates them."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (rows,), generator=generator)
    means = 2 * torch.randn(classes, width, generator=generator)
    noise = 2 * torch.randn(rows, width, generator=generator)
    return means[labels] + noise + torch.arange(width), labels


def fit(
    features: Tensor,
    labels: Tensor,
    config: ProbeSgdConfig,
    *rates: float,
    weight_decay: float = 0.0,
) -> LinearClassifiers:
    problems = [Hyperparameters(rate, weight_decay) for rate in rates]
    rows = TrainingRows.of([features])
    return fit_linear_classifiers(rows, labels, config, problems=problems, num_classes=4)


def standardised(features: Tensor) -> Tensor:
    variance = features.double().var(dim=0, correction=0)
    centred = features.double() - features.double().mean(dim=0)
    return centred / (variance + 1e-5 * variance.mean()).sqrt()


@pytest.mark.parametrize("weight_decay", [0.01, 0.1])
def test_descent_reaches_the_optimum_that_an_independent_solver_finds(weight_decay: float) -> None:
    features, labels = problem()
    # L-BFGS in float64 on the same convex problem, with autograd's gradients
    layer = nn.Linear(6, 4, dtype=torch.float64)
    solver = torch.optim.LBFGS(
        layer.parameters(),
        max_iter=1000,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def objective(weight: Tensor, bias: Tensor) -> Tensor:
        loss = F.cross_entropy(standardised(features) @ weight.T + bias, labels)
        return loss + weight_decay / 2 * weight.square().sum()

    def closure() -> Any:
        solver.zero_grad()
        loss = objective(layer.weight, layer.bias)
        loss.backward()
        return loss

    solver.step(closure)
    config = ProbeSgdConfig(epochs=400, batch_size=120)
    found = fit(features, labels, config, 1.0, weight_decay=weight_decay)
    weight, bias = found.weight[:, 0].double(), found.bias[:, 0].double()
    best = float(objective(layer.weight, layer.bias).detach())
    # float32 and 400 steps; the loss is flat at its minimum, hence the tighter bound
    assert float(objective(weight, bias)) == pytest.approx(best, abs=1e-8)
    assert torch.allclose(weight, layer.weight, atol=1e-4)
    # all biases may shift together
    assert torch.allclose(bias - bias.mean(), layer.bias - layer.bias.mean(), atol=1e-4)


def test_the_steps_are_those_of_torch_sgd_with_momentum_on_a_cosine() -> None:
    features, labels = problem(rows=50)
    config = ProbeSgdConfig(epochs=3, batch_size=16, seed=5)
    layer = nn.Linear(6, 4, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    groups = [
        {"params": [layer.weight], "weight_decay": 0.2},
        {"params": [layer.bias], "weight_decay": 0.0},
    ]
    sgd = torch.optim.SGD(groups, lr=1, momentum=0.9)
    x, order = standardised(features), torch.Generator().manual_seed(5)
    step = 0
    for _ in range(3):
        rows = torch.randperm(50, generator=order)
        for batch in rows.split([13, 13, 12, 12]):
            for group in sgd.param_groups:
                group["lr"] = 0.7 * 16 / 256 * (1 + math.cos(math.pi * step / 12)) / 2
            sgd.zero_grad()
            F.cross_entropy(layer(x[batch]), labels[batch]).backward()
            sgd.step()
            step += 1
    found = fit(features, labels, config, 0.7, weight_decay=0.2)
    assert torch.allclose(found.weight[:, 0].double(), layer.weight, atol=1e-6)
    assert torch.allclose(found.bias[:, 0].double(), layer.bias, atol=1e-6)


def test_each_rate_gives_what_it_gives_alone() -> None:
    features, labels = problem()
    config = ProbeSgdConfig(epochs=5, batch_size=32)
    rates = (0.001, 0.1, 3.0, 100.0)
    together = fit(features, labels, config, *rates)
    for number, rate in enumerate(rates):
        alone = fit(features, labels, config, rate)
        # matrix products of other shapes round differently
        size = float(alone.weight.abs().max())
        difference = together.weight[:, number] - alone.weight[:, 0]
        assert size > 0
        assert float(difference.abs().max()) < 1e-5 * size
        assert torch.allclose(together.bias[:, number], alone.bias[:, 0], rtol=1e-4, atol=1e-5)


def test_each_weight_decay_gives_what_it_gives_alone() -> None:
    features, labels = problem()
    config = ProbeSgdConfig(epochs=5, batch_size=32, initial_std=0.01)
    problems = [Hyperparameters(0.5, decay) for decay in (0.0, 0.01, 1.0)]
    rows = TrainingRows.of([features])
    together = fit_linear_classifiers(rows, labels, config, problems=problems, num_classes=4)
    for number, each in enumerate(problems):
        alone = fit(features, labels, config, 0.5, weight_decay=each.weight_decay)
        assert torch.allclose(together.weight[:, number], alone.weight[:, 0], atol=1e-5)
    assert together.weight[:, 0].norm() > 1.2 * together.weight[:, 2].norm()


def reference(
    layer: nn.Linear, x: Tensor, labels: Tensor, config: ProbeSgdConfig, rate: float, decay: float
) -> nn.BatchNorm1d:
    """Torch's SGD on the batches of the seed; with `trust`, gradients scaled as in LARS."""
    generator = torch.Generator().manual_seed(config.seed)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(4, 1, 6, generator=generator)[:, 0] * config.initial_std)
        layer.bias.zero_()
    groups = [
        {"params": [layer.weight], "weight_decay": 0.0 if config.trust else decay},
        {"params": [layer.bias], "weight_decay": 0.0},
    ]
    sgd = torch.optim.SGD(groups, lr=1, momentum=config.momentum)
    order = torch.Generator().manual_seed(config.seed)
    batches = math.ceil(len(x) / config.batch_size)
    norm = nn.BatchNorm1d(6, affine=False, dtype=torch.float64)
    for epoch in range(config.epochs):
        for batch in torch.tensor_split(torch.randperm(len(x), generator=order), batches):
            for group in sgd.param_groups:
                milestones = sum(epoch >= m for m in config.milestones)
                group["lr"] = rate * config.batch_size / 256 * 0.1**milestones
            sgd.zero_grad()
            rows = norm(x[batch]) if config.normalisation == "batch_norm" else x[batch]
            F.cross_entropy(layer(rows), labels[batch]).backward()
            for parameter, own in ((layer.weight, decay), (layer.bias, 0.0)):
                gradient, size = parameter.grad, parameter.detach().norm()
                assert gradient is not None
                if config.trust and size > 0:
                    factor = config.trust * size / (gradient.norm() + own * size + 1e-8)
                    parameter.grad = factor * (gradient + own * parameter.detach())
            sgd.step()
    return norm.eval()


@pytest.mark.parametrize("trust", [None, 0.02])
@pytest.mark.parametrize("normalisation", ["batch_norm", "none"])
def test_published_settings_step_as_a_loop_over_torch_sgd(
    trust: float | None, normalisation: Any
) -> None:
    features, labels = problem(rows=50)
    config = ProbeSgdConfig(
        epochs=5,
        batch_size=16,
        milestones=(2, 4),
        normalisation=normalisation,
        initial_std=0.3,
        trust=trust,
        seed=5,
    )
    layer = nn.Linear(6, 4, dtype=torch.float64)
    norm = reference(layer, features.double(), labels, config, 0.7, 0.1)
    found = fit(features, labels, config, 0.7, weight_decay=0.1)
    assert torch.allclose(found.weight[:, 0].double(), layer.weight, atol=1e-5)
    assert torch.allclose(found.bias[:, 0].double(), layer.bias, atol=1e-5)
    rows = features.double()
    rows = norm(rows) if normalisation == "batch_norm" else rows
    [logits] = found.in_chunks(features)
    assert torch.allclose(logits[:, 0].T.double(), layer(rows), atol=1e-4)


def test_epoch_e_sees_augmented_pass_e_modulo_their_number() -> None:
    features, labels = problem(rows=48)
    passes = torch.stack([features, features + 1, features * 2]).half()
    config = ProbeSgdConfig(epochs=5, batch_size=16, normalisation="none")
    one, two = [Hyperparameters(0.1)], [part.unbind() for part in passes.split([20, 28], dim=1)]
    found = fit_linear_classifiers(
        TrainingRows.of_views([passes.unbind()]), labels, config, problems=one, num_classes=4
    )
    split = fit_linear_classifiers(
        TrainingRows.of_views(two), labels, config, problems=one, num_classes=4
    )
    assert torch.equal(found.weight, split.weight)
    # by hand: full-batch order drawn as the seed says, rows of the epoch's pass
    weight = torch.zeros(4, 6, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    sgd = torch.optim.SGD([weight, bias], lr=1, momentum=0.9)
    order = torch.Generator().manual_seed(0)
    for epoch in range(5):
        for number, batch in enumerate(torch.randperm(48, generator=order).split(16)):
            factor = (1 + math.cos(math.pi * (epoch + number / 3) / 5)) / 2
            sgd.param_groups[0]["lr"] = 0.1 * 16 / 256 * factor
            sgd.zero_grad()
            rows = passes[epoch % 3, batch].double()
            F.cross_entropy(rows @ weight.T + bias, labels[batch]).backward()
            sgd.step()
    assert torch.allclose(found.weight[:, 0].double(), weight, atol=1e-5)


def test_what_does_not_fit_the_memory_is_fitted_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = problem()
    config = ProbeSgdConfig(epochs=3, batch_size=32)
    expected = fit(features, labels, config, 0.5)
    monkeypatch.setattr(training_rows, "_HELD_BYTES", 0)
    monkeypatch.setattr(training_rows, "_AT_ONCE", 100)
    found = fit(features, labels, config, 0.5)
    assert torch.allclose(found.weight, expected.weight, atol=1e-6)
    assert torch.allclose(found.scale, expected.scale)


def test_a_rate_that_diverges_leaves_the_others_alone() -> None:
    features, labels = problem()
    config = ProbeSgdConfig(epochs=60, batch_size=32)
    found = fit(features, labels, config, 0.1, 1000.0, weight_decay=0.5)
    assert not found.weight[:, 1].isfinite().all()
    assert torch.allclose(
        found.weight[:, 0],
        fit(features, labels, config, 0.1, weight_decay=0.5).weight[:, 0],
        atol=1e-6,
    )


def test_scale_and_offset_of_the_features_do_not_matter() -> None:
    features, labels = problem()
    config = ProbeSgdConfig(epochs=5)
    logits = next(fit(features, labels, config, 0.5).in_chunks(features))
    moved = features * 1000 + 300
    assert torch.allclose(next(fit(moved, labels, config, 0.5).in_chunks(moved)), logits, atol=1e-3)


def test_constant_channels_change_nothing_and_constant_features_learn_the_frequencies() -> None:
    features, labels = problem()
    config = ProbeSgdConfig(epochs=50)
    logits = next(fit(features, labels, config, 0.5).in_chunks(features))
    # not bit for bit: the share of the mean variance that is added to each falls with the mean
    padded = torch.cat([features, torch.full((120, 2), 0.1)], dim=1)
    found = fit(padded, labels, config, 0.5)
    assert torch.allclose(next(found.in_chunks(padded)), logits, atol=1e-3)
    same = torch.ones(120, 3)
    found = fit(same, labels, ProbeSgdConfig(epochs=300), 1.0)
    probability = next(found.in_chunks(same)).softmax(dim=0)[:, 0, 0]
    assert torch.allclose(probability, labels.bincount() / 120, atol=1e-3)
    # a channel without variance in train says nothing, whatever its value later
    assert torch.equal(next(found.in_chunks(same + 1)), next(found.in_chunks(same)))


def test_half_precision_features_are_fitted_in_float32() -> None:
    features, labels = problem()
    half = features.half()
    found = fit(half, labels, ProbeSgdConfig(epochs=2), 0.5)
    assert found.weight.dtype == torch.float32
    assert torch.equal(
        found.weight, fit(half.float(), labels, ProbeSgdConfig(epochs=2), 0.5).weight
    )


def test_logits_do_not_depend_on_how_many_rows_are_computed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features, labels = problem()
    found = fit(features, labels, ProbeSgdConfig(epochs=2), 0.5, 0.7)
    [whole] = found.in_chunks(features)
    monkeypatch.setattr(linear_classifiers, "_LOGITS_AT_ONCE", 100)
    parts = list(found.in_chunks(features))
    assert [part.shape for part in parts] == [(4, 2, 12)] * 10
    assert torch.allclose(torch.cat(parts, dim=2), whole, atol=1e-6)


def test_the_seed_sets_the_order_of_images_and_nothing_else_does() -> None:
    features, labels = problem()
    torch.manual_seed(1)
    first = fit(features, labels, ProbeSgdConfig(epochs=2, batch_size=16, seed=3), 0.5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = fit(features, labels, ProbeSgdConfig(epochs=2, batch_size=16, seed=3), 0.5)
    other = fit(features, labels, ProbeSgdConfig(epochs=2, batch_size=16, seed=4), 0.5)
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("seed", -1),
        ("seed", 2**63),
        ("momentum", 1.0),
        ("initial_std", -1.0),
        ("trust", 0.0),
    ],
)
def test_impossible_settings_are_named(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{key}: .*got {value}"):
        ProbeSgdConfig(**{key: value})


@pytest.mark.parametrize("normalisation", ["standardise", "batch_norm"])
def test_threads_share_the_problems_and_change_nothing(normalisation: Any) -> None:
    features, labels = problem()
    config = ProbeSgdConfig(epochs=3, batch_size=32, initial_std=0.1, normalisation=normalisation)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(fit(features, labels, config, 0.01, 0.1, 1.0, 3.0, weight_decay=0.1))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    alone, shared = found
    for name in ("mean", "scale", "weight", "bias"):
        assert torch.allclose(getattr(alone, name), getattr(shared, name), atol=1e-5), name
    assert not torch.allclose(alone.weight[:, 0], alone.weight[:, 1], atol=1e-2)
