"""Tests of ssl_bf.parts.backbone_in_parts: parts that equal the whole."""

import pytest
import torch
from torch import Tensor, nn

from linear_eval.system.errors import InputError
from ssl_bf.layers.batch_norm import set_batch_norm_mode
from ssl_bf.parts.backbone_in_parts import features_in_parts, split_groups
from ssl_bf.parts.initial_values import initial_values

N = 12


def network(mode: str = "local", *, dropout: float = 0.0) -> nn.Sequential:
    with initial_values(0, "network"):
        layers: list[nn.Module] = [nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
    made = nn.Sequential(*layers, nn.Dropout(dropout)).double()
    set_batch_norm_mode(made, mode)
    return made


def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, 3, 3, 3, generator=generator, dtype=torch.float64)


def step(backbone: nn.Module, parts: int | None) -> dict[str, Tensor]:
    """Features, gradients of a loss that mixes all rows, and buffers after two forwards."""
    view = images()
    torch.manual_seed(3)
    for _ in range(2):
        features = features_in_parts(backbone, view, parts) if parts else backbone(view)
    torch.autograd.backward((features @ features.T).softmax(dim=1).diagonal().sum())
    gradients = {
        f"gradient/{n}": p.grad for n, p in backbone.named_parameters() if p.grad is not None
    }
    assert len(gradients) == len(list(backbone.parameters()))
    return {"features": features.detach(), **dict(backbone.named_buffers()), **gradients}


@pytest.mark.parametrize("parts", [2, 4])
def test_without_statistics_of_the_batch_parts_equal_the_whole(parts: int) -> None:
    torch.testing.assert_close(step(network().eval(), parts), step(network().eval(), None))


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("groups", [4])
def test_groups_shared_by_the_parts_equal_the_whole(parts: int, groups: int) -> None:
    shared = network(f"groups:{groups}")
    split_groups(shared, parts, N)
    torch.testing.assert_close(step(shared, parts), step(network(f"groups:{groups}"), None))


def test_batch_norm_normalises_each_part_and_moves_its_statistics_once() -> None:
    torch.testing.assert_close(step(network(), 3), step(network("groups:3"), None))


def test_the_second_forward_of_a_part_drops_the_same_numbers() -> None:
    backbone = network(dropout=0.5).eval()
    backbone[-1].train()
    ours = step(backbone, 2)
    view = images()
    masks = torch.where(ours["features"] != 0, 2.0, 0.0).double()  # a ReLU's zero has no gradient
    backbone[-1].eval()
    backbone.zero_grad()
    features = backbone(view) * masks
    torch.testing.assert_close(features.detach(), ours["features"])
    torch.autograd.backward((features @ features.T).softmax(dim=1).diagonal().sum())
    for name, parameter in backbone.named_parameters():
        torch.testing.assert_close(parameter.grad, ours[f"gradient/{name}"])


def test_one_part_is_computed_at_a_time() -> None:
    rows: list[int] = []
    backbone = network()
    backbone[0].register_forward_hook(lambda _, inputs, out: rows.append(len(inputs[0])))
    features = features_in_parts(backbone, images(), 4)
    assert rows == [3] * 4
    torch.autograd.backward(features.sum())
    assert rows == [3] * 8


def test_under_autocast_the_second_forward_has_the_precision_of_the_first() -> None:
    plain, parted = network().float().eval(), network().float().eval()
    with torch.autocast("cpu", torch.bfloat16):
        whole = plain(images().float())
        parts = features_in_parts(parted, images().float(), 3)
    assert parts.dtype == whole.dtype
    torch.autograd.backward(whole.float().square().sum())
    torch.autograd.backward(parts.float().square().sum())
    for one, other in zip(plain.parameters(), parted.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0.02, atol=0.05)


@pytest.mark.parametrize(
    ("mode", "parts", "says"),
    [
        ("groups:8", 3, "parts of at least 2, with whole groups of method.batch_norm=groups:8"),
        ("groups:8", 5, "accumulate: 5 does not cut the 64 images per device into equal parts"),
        ("groups:8", 64, "set accumulate=8"),
        ("local", 5, "parts of at least 2; set accumulate=8"),
        ("local", 64, "set accumulate=32"),
    ],
)
def test_parts_that_do_not_fit_are_answered_with_a_number_that_does(
    mode: str, parts: int, says: str
) -> None:
    with pytest.raises(InputError, match=f"^accumulate: {parts} .*set accumulate=") as caught:
        split_groups(network(mode), parts, 64)
    assert says in str(caught.value)
    split_groups(network(mode), int(str(caught.value).rpartition("=")[2]), 64)
