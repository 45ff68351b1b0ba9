"""Tests of ssl_bf.losses.negative_cosine."""

import math

import pytest
import torch
from torch import Tensor

from ssl_bf.losses.negative_cosine import negative_cosine

N, P = 5, 7


def randn(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(N, P, generator=generator, dtype=torch.float64).to(dtype)


def by_loops(prediction: Tensor, target: Tensor) -> float:
    """Equations 1 and 3 of the paper, one number at a time."""
    total = 0.0
    for p, z in zip(prediction.tolist(), target.tolist(), strict=True):
        dot = sum(a * b for a, b in zip(p, z, strict=True))
        total -= dot / math.sqrt(sum(a * a for a in p)) / math.sqrt(sum(b * b for b in z))
    return total / len(prediction)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_it_equals_the_definition_in_every_precision(dtype: torch.dtype) -> None:
    prediction, target = randn(1, dtype), randn(2, dtype)
    # The inputs are rounded before both sides see them; what follows is float32 or wider.
    tolerance = 1e-14 if dtype == torch.float64 else 1e-6
    expected = by_loops(prediction, target)
    assert negative_cosine(prediction, target).item() == pytest.approx(expected, abs=tolerance)


def test_parallel_rows_give_minus_one_and_opposite_rows_plus_one() -> None:
    x = randn(1)
    assert negative_cosine(x, 3 * x).item() == pytest.approx(-1, abs=1e-14)
    assert negative_cosine(x, -x).item() == pytest.approx(1, abs=1e-14)


def test_lengths_do_not_matter() -> None:
    prediction, target = randn(1), randn(2)
    lengths = torch.logspace(-3, 3, N, dtype=torch.float64)[:, None]
    scaled = negative_cosine(prediction * lengths, target / lengths)
    torch.testing.assert_close(scaled, negative_cosine(prediction, target))


def test_permuting_predictions_and_targets_together_changes_nothing() -> None:
    prediction, target = randn(1), randn(2)
    order = torch.tensor([3, 0, 4, 1, 2])
    expected = negative_cosine(prediction, target)
    torch.testing.assert_close(negative_cosine(prediction[order], target[order]), expected)
    assert (negative_cosine(prediction[order], target) - expected).abs() > 1e-3


def test_the_gradient_reaches_the_prediction_and_never_the_target() -> None:
    prediction, target = randn(1).requires_grad_(), randn(2).requires_grad_()
    torch.autograd.backward(negative_cosine(prediction, target))
    assert target.grad is None
    assert prediction.grad is not None
    assert prediction.grad.abs().sum(dim=1).min() > 1e-3
    assert torch.autograd.gradcheck(lambda p: negative_cosine(p, target.detach()), (prediction,))


def test_autocast_does_not_reach_the_similarity() -> None:
    prediction, target = randn(1, torch.float32), randn(2, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = negative_cosine(prediction, target)
    assert torch.equal(inside, negative_cosine(prediction, target))


def test_every_stream_of_predictions_has_its_own_mean() -> None:
    streams, target = torch.stack([randn(1), randn(3), randn(4)]), randn(2)
    expected = torch.stack([negative_cosine(prediction, target) for prediction in streams])
    torch.testing.assert_close(negative_cosine(streams, target), expected)
