import copy
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from linear_eval.backbones.architectures import ARCHITECTURES, SmallConv, build_backbone
from linear_eval.backbones.cifar_resnet import CIFAR_BLOCKS
from linear_eval.backbones.stages import parameters_by_stage, places, stages
from linear_eval.backbones.timm_models import build_timm
from linear_eval.backbones.vision_transformers import VISION_TRANSFORMERS
from linear_eval.system.errors import InputError

GRIDS = [name for name in ARCHITECTURES if name not in VISION_TRANSFORMERS]
LARGE = ("vit_base", "resnet101")  # nothing in them that the smaller ones lack
TIMM_VITS = ["timm:test_vit", "timm:test_vit2", "timm:deit_tiny_distilled_patch16_224"]


def large_ones_slow(names: Iterable[str]) -> list[Any]:
    """The same, those that take ten seconds each marked."""
    slow = pytest.mark.slow
    return [pytest.param(name, marks=slow if name.startswith(LARGE) else ()) for name in names]


def composed(backbone: nn.Module, images: Tensor) -> Tensor:
    for stage in stages(backbone):
        images = stage(images)
    return images


def check_equal(backbone: nn.Module, size: int) -> None:
    """Both modes: values, gradients and what is written into buffers."""
    images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    names = [name for name, _ in backbone.named_parameters()]
    for training in (True, False):
        whole, cut = copy.deepcopy(backbone).train(training), backbone.train(training)
        expected, got = whole(images), composed(cut, images)
        assert torch.equal(got, expected)
        expected.square().sum().backward()
        got.square().sum().backward()
        assert [name for name, _ in cut.named_parameters()] == names
        pairs = list(zip(whole.buffers(), cut.buffers(), strict=True))
        for theirs, ours in zip(whole.parameters(), cut.parameters(), strict=True):
            assert (theirs.grad is None) == (ours.grad is None)
            if theirs.grad is not None and ours.grad is not None:
                pairs.append((theirs.grad, ours.grad))
        assert all(torch.equal(theirs, ours) for theirs, ours in pairs)
        backbone.zero_grad()


@pytest.mark.parametrize("architecture", large_ones_slow(GRIDS))
def test_the_stages_of_a_convolutional_network_are_the_network(architecture: str) -> None:
    backbone = build_backbone(architecture)
    assert len(stages(backbone)) == (4 if architecture in CIFAR_BLOCKS else 5)
    # a last grid of one value per channel makes gradients infinite in deep networks
    check_equal(backbone, 16 if "_cifar" in architecture else 32)


def check_parameters(backbone: nn.Module, size: int) -> None:
    """What runs up to a stage reaches the parameters up to it, and no others."""
    groups = parameters_by_stage(backbone)
    names = [name for name, _ in backbone.named_parameters()]
    assert sorted(name for group in groups for name in group) == sorted(names)
    value = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    reached: set[str] = set()
    for stage, group in zip_longest(stages(backbone), groups, fillvalue=()):
        value = stage(value)  # type: ignore[operator]
        backbone.zero_grad()
        value.square().sum().backward(retain_graph=True)
        reached |= {name for name in group if backbone.get_parameter(name).requires_grad}
        grads = {name for name, p in backbone.named_parameters() if p.grad is not None}
        assert grads == reached


@pytest.mark.parametrize("architecture", ["small_conv", "resnet20", "resnet18_cifar", "resnet50"])
def test_the_parameters_of_a_convolutional_network_lie_in_its_stages(architecture: str) -> None:
    check_parameters(build_backbone(architecture), 32)


def test_the_parameters_of_a_vision_transformer_lie_in_its_stages() -> None:
    pytest.importorskip("timm", reason="vision transformers need the extra timm")
    check_parameters(build_backbone("vit_micro"), 32)


@pytest.mark.parametrize("architecture", large_ones_slow(VISION_TRANSFORMERS))
def test_the_stages_of_a_vision_transformer_are_the_network(architecture: str) -> None:
    pytest.importorskip("timm", reason="vision transformers need the extra timm")
    backbone = build_backbone(architecture)
    assert len(stages(backbone)) == VISION_TRANSFORMERS[architecture].depth + 2
    check_equal(backbone, 32)


@pytest.mark.parametrize("architecture", TIMM_VITS)
def test_the_stages_of_timms_vision_transformers_are_the_network(architecture: str) -> None:
    timm = pytest.importorskip("timm", reason="vision transformers need the extra timm")
    size = timm.create_model(architecture.removeprefix("timm:")).pretrained_cfg["input_size"][1]
    check_equal(build_timm(architecture), size)


EFFICIENT = [
    "timm:test_efficientnet",
    pytest.param("timm:tf_efficientnet_lite0", marks=pytest.mark.slow),
    pytest.param("timm:efficientnet_b0", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("architecture", EFFICIENT)
def test_the_stages_of_an_efficientnet_are_the_network(architecture: str) -> None:
    pytest.importorskip("timm", reason="models of timm need the extra timm")
    backbone = build_timm(architecture)
    for each in backbone.modules():
        if hasattr(each, "drop_prob"):
            each.drop_prob = 0.0  # type: ignore[assignment]  # its random numbers would differ
    check_equal(backbone, 64)
    check_parameters(backbone, 64)
    widths = []
    with torch.no_grad():
        value = torch.zeros(2, 3, 64, 64)
        for stage in stages(backbone.eval())[:-1]:
            value = stage(value)
            widths.append(value.shape[1])
    found = places(backbone)
    assert [(n, p.stages, p.width) for n, p in found.items()] == [
        (number, number, width) for number, width in enumerate(widths, start=1)
    ]


@pytest.mark.parametrize("name", ["mixnet_s", "efficientnet_cc_b0_4e", "efficientnetv2_rw_t"])
def test_places_of_efficientnets_are_as_wide_as_what_is_there(name: str) -> None:
    timm = pytest.importorskip("timm", reason="models of timm need the extra timm")
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=0).eval()
        value, widths = torch.zeros(2, 3, 64, 64), []
        for stage in stages(network)[:-1]:
            value = stage(value)
            widths.append(value.shape[1])
    assert [place.width for place in places(network).values()] == widths


def test_between_the_stages_are_grids_or_tokens() -> None:
    pytest.importorskip("timm", reason="vision transformers need the extra timm")
    shapes = {}
    for name in ("small_conv", "resnet18_cifar", "vit_micro"):
        value = torch.zeros(2, 3, 32, 32)
        seen = []
        for stage in stages(build_backbone(name).eval()):
            value = stage(value)
            seen.append(tuple(value.shape[1:]))
        shapes[name] = seen
    assert shapes == {
        "small_conv": [(16, 32, 32), (32, 16, 16), (64, 8, 8), (128, 4, 4), (128,)],
        "resnet18_cifar": [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512,)],
        "vit_micro": [(65, 128)] * 5 + [(128,)],
    }


def test_the_stages_follow_the_mode_and_the_weights() -> None:
    backbone = SmallConv().eval()
    cut = stages(backbone)
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        next(backbone.parameters()).mul_(2)
    backbone.train()
    value = images
    for stage in cut:
        value = stage(value)
    assert torch.equal(value, copy.deepcopy(backbone)(images))


def test_images_of_a_wrong_size_are_refused_by_the_first_stage() -> None:
    pytest.importorskip("timm", reason="vision transformers need the extra timm")
    with pytest.raises(InputError, match="30 x 30 pixels .* patches of 4 x 4"):
        stages(build_backbone("vit_micro"))[0](torch.zeros(1, 3, 30, 30))
    with pytest.raises(InputError, match="32 x 32 pixels, but timm:test_vit takes 160 x 160"):
        stages(build_timm("timm:test_vit"))[0](torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("name", ["resnet26", "test_convnext", "beit_base_patch16_224"])
def test_a_network_without_stages_is_refused_in_one_line(name: str) -> None:
    timm = pytest.importorskip("timm", reason="models of timm need the extra timm")
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=0)
    with pytest.raises(
        InputError, match=r"has no stages, expected a ResNet, small_conv"
    ) as refused:
        stages(network)
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="Linear has no stages"):
        stages(nn.Linear(2, 2))
