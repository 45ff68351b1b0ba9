"""The losses of metric learning against loops written from their formulas, in float64."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssl_bf.losses.class_info_nce import class_info_nce
from ssl_bf.losses.pair_loss import pair_loss
from ssl_bf.losses.proxy_anchor import proxy_anchor

WIDTH = 5


def rows_of(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, WIDTH, generator=generator, dtype=torch.float64)


def cosine(x: Tensor, y: Tensor) -> float:
    return float(x @ y / (x.norm() * y.norm()))


def published_pairs(z: Tensor, temperature: float) -> float:
    """z (n, m, d); for each ordered pair of slots logits (n, 2n), the target the diagonal."""
    n, m, _ = z.shape
    losses = []
    for a in range(m):
        for b in range(m):
            if a == b:
                continue
            for i in range(n):
                logits = [cosine(z[i, a], z[k, b]) / temperature for k in range(n)]
                logits += [cosine(z[i, a], z[k, a]) / temperature for k in range(n) if k != i]
                total = math.log(sum(map(math.exp, logits)))
                losses.append(total - logits[i])
    return sum(losses) / len(losses)


@given(st.integers(1, 5), st.integers(2, 4), st.sampled_from([0.05, 0.2, 1.0]), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_pair_loss_is_the_mean_of_the_published_one(
    n: int, m: int, temperature: float, seed: int
) -> None:
    z = rows_of(n * m, seed).view(n, m, WIDTH)
    labels = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    slot_by_slot = z.transpose(0, 1).flatten(0, 1)
    found = pair_loss(slot_by_slot, labels.repeat(m), temperature)
    assert float(found) == pytest.approx(published_pairs(z, temperature), rel=1e-12)
    class_by_class = pair_loss(z.flatten(0, 1), labels.repeat_interleave(m), temperature)
    assert float(class_by_class) == pytest.approx(float(found), rel=1e-12)


def loop_info_nce(rows: Tensor, labels: list[int], temperature: float) -> float:
    values = []
    for i, own in enumerate(labels):
        others = [k for k in range(len(labels)) if k != i]
        total = sum(math.exp(cosine(rows[i], rows[k]) / temperature) for k in others)
        positives = [k for k in others if labels[k] == own]
        if positives:
            terms = [math.log(total) - cosine(rows[i], rows[j]) / temperature for j in positives]
            values.append(sum(terms) / len(terms))
    return sum(values) / len(values) if values else 0.0


def loop_proxy_anchor(
    rows: Tensor, labels: list[int], proxies: Tensor, scale: float, margin: float
) -> float:
    there = set(labels)
    pulled = pushed = 0.0
    for p, proxy in enumerate(proxies):
        own = [cosine(rows[i], proxy) for i, label in enumerate(labels) if label == p]
        rest = [cosine(rows[i], proxy) for i, label in enumerate(labels) if label != p]
        if own:
            pulled += math.log(1 + sum(math.exp(-scale * (s - margin)) for s in own))
        pushed += math.log(1 + sum(math.exp(scale * (s + margin)) for s in rest))
    return pulled / len(there) + pushed / len(proxies)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=9), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_info_nce_and_proxy_anchor_are_their_loops_for_any_labels(
    labels: list[int], seed: int
) -> None:
    rows, given_labels = rows_of(len(labels), seed), torch.tensor(labels)
    found = class_info_nce(rows, given_labels, 0.1)
    assert float(found) == pytest.approx(loop_info_nce(rows, labels, 0.1), rel=1e-11)
    proxies = rows_of(5, seed + 1)
    found = proxy_anchor(rows, given_labels, proxies, scale=32.0, margin=0.1)
    expected = loop_proxy_anchor(rows, labels, proxies, 32.0, 0.1)
    assert float(found) == pytest.approx(expected, rel=1e-11)


Loss = Callable[[Tensor, Tensor], Tensor]
PROXIES = rows_of(4, 7)
LOSSES: dict[str, Loss] = {
    "pairs": lambda rows, labels: pair_loss(rows, labels, 0.2),
    "info_nce": lambda rows, labels: class_info_nce(rows, labels, 0.1),
    "proxy_anchor": lambda rows, labels: proxy_anchor(
        rows, labels, PROXIES.to(rows.dtype), scale=32.0, margin=0.1
    ),
}
each_loss = pytest.mark.parametrize("name", LOSSES)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])  # 3 is not there, and one class is larger


@each_loss
def test_streams_are_looked_at_one_by_one_and_lengths_do_not_matter(name: str) -> None:
    loss, both = LOSSES[name], torch.stack([rows_of(8), rows_of(8, 1)])
    expected = torch.stack([loss(each, LABELS) for each in both])
    torch.testing.assert_close(loss(both, LABELS), expected)
    lengths = torch.rand(2, 8, 1, dtype=torch.float64) + 0.5
    torch.testing.assert_close(loss(both * lengths, LABELS), expected)


@each_loss
def test_a_loss_falls_when_classes_close_up(
    name: str,
) -> None:
    loss, rows = LOSSES[name], rows_of(8)
    close = rows + 5 * PROXIES[LABELS]
    assert float(loss(close, LABELS)) < float(loss(rows, LABELS))


@each_loss
@pytest.mark.parametrize("labels", [LABELS, torch.zeros(8, dtype=torch.int64), torch.arange(8) % 4])
def test_gradients_are_those_of_finite_differences_and_finite_where_classes_are_absent(
    name: str, labels: Tensor
) -> None:
    rows = rows_of(8).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, labels), (rows,))


def test_proxies_have_their_gradient() -> None:
    rows, proxies = rows_of(8), PROXIES.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p: proxy_anchor(rows, LABELS, p, scale=8.0, margin=0.1), (proxies,)
    )


@pytest.mark.parametrize("name", ["pairs", "info_nce"])
def test_a_batch_without_pairs_costs_nothing(name: str) -> None:
    rows = rows_of(5).requires_grad_()
    loss = LOSSES[name](rows, torch.arange(5))
    assert loss.item() == 0
    torch.autograd.backward(loss)
    assert rows.grad is not None
    assert not rows.grad.any()


@pytest.mark.parametrize("temperature", [0.03, 0.2])
def test_the_pair_loss_stays_finite_in_float32_at_its_lowest_temperature(
    temperature: float,
) -> None:
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [1.0, 1e-3]]).requires_grad_()
    loss = pair_loss(rows, torch.tensor([0, 0, 1, 1]), temperature)
    torch.autograd.backward(loss)
    assert torch.isfinite(loss)
    assert rows.grad is not None
    assert bool(torch.isfinite(rows.grad).all())
