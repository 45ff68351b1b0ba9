import pytest
import torch
import torchvision

from linear_eval.backbones.architectures import (
    ARCHITECTURES,
    build_backbone,
    expected_tensors,
    feature_dim,
)
from linear_eval.system.errors import InputError

VITS = [name for name in ARCHITECTURES if name.startswith("vit_")]
RESNETS = ["resnet18", "resnet34", "resnet50", "resnet101"]


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name not in VITS])
def test_a_backbone_gives_one_row_of_its_width_per_image(architecture: str) -> None:
    backbone = build_backbone(architecture).eval()
    with torch.no_grad():
        assert backbone(torch.zeros(2, 3, 32, 32)).shape == (2, feature_dim(architecture))


@pytest.mark.parametrize("architecture", RESNETS)
def test_torchvision_accepts_the_weights_except_fc(architecture: str) -> None:
    model = getattr(torchvision.models, architecture)()
    keys = model.load_state_dict(build_backbone(architecture).state_dict(), strict=False)
    assert set(keys.missing_keys) == {"fc.weight", "fc.bias"}
    assert keys.unexpected_keys == []


@pytest.mark.parametrize("architecture", RESNETS)
@pytest.mark.parametrize("stem", ["_cifar", "_cifar_padding2"])
def test_the_cifar_stem_differs_in_the_first_convolution_only(architecture: str, stem: str) -> None:
    plain, cifar = expected_tensors(architecture), expected_tensors(architecture + stem)
    assert plain.keys() == cifar.keys()
    assert [name for name in plain if plain[name] != cifar[name]] == ["conv1.weight"]
    assert cifar["conv1.weight"] == (64, 3, 3, 3)


@pytest.mark.parametrize(("stem", "side"), [("_cifar", 32), ("_cifar_padding2", 34)])
def test_the_cifar_stem_keeps_the_resolution_or_pads_it(stem: str, side: int) -> None:
    backbone = build_backbone(f"resnet18{stem}")
    seen = []
    backbone.get_submodule("layer1").register_forward_hook(lambda *args: seen.append(args[2].shape))
    backbone.eval()(torch.zeros(1, 3, 32, 32))
    assert seen == [(1, 64, side, side)]


def test_small_conv_has_98k_parameters_and_strides_1_2_2_2() -> None:
    backbone = build_backbone("small_conv")
    convs = [module for module in backbone.modules() if isinstance(module, torch.nn.Conv2d)]
    assert [(conv.out_channels, conv.stride[0]) for conv in convs] == [
        (16, 1),
        (32, 2),
        (64, 2),
        (128, 2),
    ]
    assert sum(p.numel() for p in backbone.parameters()) == 97_680


@pytest.mark.parametrize("architecture", ["small_conv", "resnet18_cifar"])
def test_weights_follow_the_global_seed(architecture: str) -> None:
    weights = []
    for seed in (0, 0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            weights.append(
                torch.cat([p.flatten() for p in build_backbone(architecture).parameters()])
            )
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_zero_init_residual_starts_every_block_as_its_shortcut() -> None:
    def last_norms(*, zero: bool) -> list[float]:
        state = build_backbone("resnet18", zero_init_residual=zero).state_dict()
        return [float(state[name].abs().sum()) for name in state if name.endswith("bn2.weight")]

    assert last_norms(zero=True) == [0.0] * 8
    assert min(last_norms(zero=False)) > 0


def test_expected_tensors_are_those_of_the_backbone_and_draw_nothing() -> None:
    before = torch.get_rng_state()
    expected = expected_tensors("resnet18")
    assert torch.equal(torch.get_rng_state(), before)
    state = build_backbone("resnet18").state_dict()
    assert expected == {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize("name", ["resnet18_cifer", "resnt18_cifar"])
def test_an_unknown_architecture_names_the_nearest(name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' is not known; did you mean 'resnet18_cifar'"):
        build_backbone(name)


def test_an_unknown_architecture_without_a_neighbour_lists_the_known() -> None:
    with pytest.raises(InputError, match="known: small_conv, resnet18"):
        feature_dim("xyz")
