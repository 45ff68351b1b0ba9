"""Tests of ssl_bf.losses.class_logits: each against a direct loop in float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from ssl_bf.losses.class_logits import (
    class_cross_entropy,
    effective_number_weights,
    ldam_margins,
    log_prior,
    with_margins,
)

A, N, C = 2, 7, 5
COUNTS = torch.tensor([500, 80, 20, 5, 1])


def logits(seed: int = 0) -> Tensor:
    return torch.randn(A, N, C, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels() -> Tensor:
    return torch.tensor([0, 1, 2, 3, 4, 0, 3])


def by_loops(scores: Tensor, smoothing: float = 0.0, weights: list[float] | None = None) -> Tensor:
    """The mean of -sum_c t_c log p_c for every stream, from the definition."""
    means = []
    for stream in scores.tolist():
        total = 0.0
        for row, label in zip(stream, labels().tolist(), strict=True):
            largest = max(row)
            log_sum = largest + math.log(sum(math.exp(s - largest) for s in row))
            for c, score in enumerate(row):
                target = (1 - smoothing) * (c == label) + smoothing / C
                total -= target * (score - log_sum) * (weights[label] if weights else 1.0)
        means.append(total / N)
    return torch.tensor(means, dtype=torch.float64)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_it_equals_the_definition(smoothing: float, weighted: bool, tau: float) -> None:
    weights = effective_number_weights(COUNTS, 0.999) if weighted else None
    total = sum(COUNTS.tolist())
    shifted = logits().clone()
    for c, count in enumerate(COUNTS.tolist()):
        shifted[:, :, c] += tau * math.log(count / total)
    found = class_cross_entropy(
        logits(),
        labels(),
        prior=log_prior(COUNTS, tau),
        label_smoothing=smoothing,
        weights=weights,
    )
    expected = by_loops(shifted, smoothing, None if weights is None else weights.tolist())
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_prior_of_one_is_cross_entropy_of_the_logits_and_the_log_counts() -> None:
    scores = logits().float()
    found = class_cross_entropy(scores, labels(), prior=log_prior(COUNTS, 1.0))
    for stream, value in zip(scores, found, strict=True):
        expected = functional.cross_entropy(stream + COUNTS.log(), labels())
        assert abs(value.item() - expected.item()) < 1e-6


@given(st.floats(1e-3, 1e6), st.floats(0, 2))
def test_scaled_counts_are_the_same_prior(factor: float, tau: float) -> None:
    torch.testing.assert_close(
        log_prior(COUNTS * factor, tau), log_prior(COUNTS, tau), rtol=0, atol=1e-6
    )


def test_no_prior_is_plain_cross_entropy() -> None:
    found = class_cross_entropy(logits(), labels())
    expected = [functional.cross_entropy(stream, labels()) for stream in logits()]
    torch.testing.assert_close(found, torch.stack(expected))


def test_it_is_computed_in_float32_in_lower_precision() -> None:
    scores = logits().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = class_cross_entropy(scores, labels(), prior=log_prior(COUNTS, 1.0))
    assert found.dtype == torch.float32
    torch.autograd.backward(found.sum())
    assert scores.grad is not None


def test_ldam_equals_a_direct_loop() -> None:
    cosines, scale, largest = logits().tanh(), 30.0, 0.5
    rarest = min(COUNTS.tolist())
    expected = torch.zeros(A, N, C, dtype=torch.float64)
    for a in range(A):
        for row, label in enumerate(labels().tolist()):
            for c in range(C):
                margin = largest * (rarest / COUNTS[label].item()) ** 0.25 if c == label else 0.0
                expected[a, row, c] = scale * (cosines[a, row, c].item() - margin)
    found = with_margins(cosines, labels(), ldam_margins(COUNTS, largest), scale)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        class_cross_entropy(found, labels()), by_loops(expected), rtol=1e-12, atol=1e-12
    )


def test_the_rarest_class_has_the_largest_margin_and_a_sixteenth_of_images_doubles_it() -> None:
    margins = ldam_margins(torch.tensor([1600, 100, 400]), 0.5)
    assert margins[1] == 0.5
    assert margins[1] / margins[0] == pytest.approx(2)


@pytest.mark.parametrize("beta", [0.9, 0.9999])
def test_weights_follow_the_effective_number_and_leave_the_mean_image_alone(beta: float) -> None:
    weights = effective_number_weights(COUNTS, beta)
    assert float((weights * COUNTS).sum() / COUNTS.sum()) == pytest.approx(1)
    for one, other in ((0, 4), (1, 2)):
        numbers = [sum(beta**k for k in range(int(COUNTS[c]))) for c in (one, other)]
        assert float(weights[one] / weights[other]) == pytest.approx(numbers[1] / numbers[0])
