"""Tests of ssl_bf.layers.mlp_head; the values are met in tests/parity."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_bf.layers.mlp_head import mlp_head


def test_a_head_without_batch_norm_is_linear_relu_linear() -> None:
    head = mlp_head([4, 5, 6, 3], batch_norm=False, hidden_bias=True, last_bias=True)
    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    state = head.state_dict()
    expected: Tensor = x
    for number in (0, 2):
        expected = (expected @ state[f"{number}.weight"].T + state[f"{number}.bias"]).clamp(min=0)
    expected = expected @ state["4.weight"].T + state["4.bias"]
    torch.testing.assert_close(head(x), expected)


def test_two_widths_are_one_linear() -> None:
    head = mlp_head([4, 3], batch_norm=True, hidden_bias=True, last_bias=False)
    assert {name: tuple(value.shape) for name, value in head.state_dict().items()} == {
        "0.weight": (3, 4)
    }


NORM = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
PUBLISHED: dict[str, tuple[dict[str, Any], dict[int, set[str]]]] = {
    "MoCo-v2": (
        {"widths": [8, 8, 4], "batch_norm": False, "hidden_bias": True, "last_bias": True},
        {0: {"weight", "bias"}, 2: {"weight", "bias"}},
    ),
    "MoCo-v3 projector": (
        {"widths": [8, 16, 4], "batch_norm": True, "hidden_bias": False, "last_bias": False}
        | {"last_batch_norm": "affine_free"},
        {0: {"weight"}, 1: NORM, 3: {"weight"}, 4: NORM - {"weight", "bias"}},
    ),
    "MoCo-v3 predictor": (
        {"widths": [4, 16, 4], "batch_norm": True, "hidden_bias": False, "last_bias": False},
        {0: {"weight"}, 1: NORM, 3: {"weight"}},
    ),
    "SimSiam projector": (
        {"widths": [8, 8, 8, 4], "batch_norm": True, "hidden_bias": False, "last_bias": True}
        | {"last_batch_norm": "affine_free"},
        {
            **{0: {"weight"}, 1: NORM, 3: {"weight"}, 4: NORM},
            **{6: {"weight", "bias"}, 7: NORM - {"weight", "bias"}},
        },
    ),
    "SimSiam predictor": (
        {"widths": [8, 2, 8], "batch_norm": True, "hidden_bias": False, "last_bias": True},
        {0: {"weight"}, 1: NORM, 3: {"weight", "bias"}},
    ),
}


@pytest.mark.parametrize("head", PUBLISHED)
def test_names_are_those_of_the_published_heads(head: str) -> None:
    keys, expected = PUBLISHED[head]
    names = {f"{number}.{name}" for number, parts in expected.items() for name in parts}
    assert set(mlp_head(**keys).state_dict()) == names


@pytest.mark.parametrize("head", PUBLISHED)
def test_it_maps_the_first_width_to_the_last(head: str) -> None:
    keys, _ = PUBLISHED[head]
    out = mlp_head(**keys)(torch.ones(6, keys["widths"][0]))
    assert out.shape == (6, keys["widths"][-1])


def test_every_hidden_width_has_one_relu_and_the_output_none() -> None:
    head = mlp_head([4, 5, 6, 3], batch_norm=True, hidden_bias=False, last_bias=True)
    kinds = [type(layer) for layer in head]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU] * 2 + [nn.Linear]
