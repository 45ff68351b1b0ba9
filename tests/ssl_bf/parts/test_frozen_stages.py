"""Tests of ssl_bf.parts.frozen_stages: what is frozen stays to the bit, the rest learns on."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_file import load_backbone
from linear_eval.backbones.stages import parameters_by_stage, stages
from linear_eval.system.errors import InputError
from ssl_bf.layers.batch_norm import set_batch_norm_mode
from ssl_bf.parts.frozen_stages import freeze_stages
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.train import train
from tests.tiny_moco import build


def started(architecture: str) -> nn.Module:
    """With running statistics of its own."""
    with initial_values(0, "backbone"):
        network = build_backbone(architecture)
        with torch.no_grad():
            network(torch.randn(8, 3, 32, 32))
    return network


def images() -> Tensor:
    return torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("mode", ["local", "groups:2", "synchronised", "frozen"])
@pytest.mark.parametrize("architecture", ["small_conv", "resnet18_cifar"])
def test_the_rest_has_the_gradient_it_has_behind_stages_in_evaluation_mode(
    architecture: str, mode: str, count: int
) -> None:
    ours, theirs = started(architecture), started(architecture)
    freeze_stages(ours, count)
    for network in (ours, theirs):
        set_batch_norm_mode(network, mode)
        network.train()
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    with torch.no_grad():
        theirs.eval()
        value = images()
        for stage in stages(theirs)[:count]:
            value = stage(value)
        theirs.train()
    for stage in stages(theirs)[count:]:
        value = stage(value)
    features = ours(images())
    torch.testing.assert_close(features, value)
    features.square().sum().backward()
    value.square().sum().backward()

    frozen = {name for names in parameters_by_stage(theirs)[:count] for name in names}
    for name, parameter in ours.named_parameters():
        assert (parameter.grad is None) == (name in frozen)
        if name not in frozen:
            torch.testing.assert_close(parameter.grad, theirs.get_parameter(name).grad)
    frozen_modules = {name.rpartition(".")[0] for name in frozen}
    for name, buffer in ours.named_buffers():
        is_frozen = name.rpartition(".")[0] in frozen_modules
        assert torch.equal(buffer, before[name]) == (is_frozen or mode == "frozen")


def test_names_and_values_stay_and_none_frozen_changes_nothing() -> None:
    network = started("resnet18_cifar")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    untouched = copy.deepcopy(network)
    freeze_stages(network, 0)
    assert all(p.requires_grad for p in network.parameters())
    kinds = [type(each) for each in network.modules()]
    assert kinds == [type(each) for each in untouched.modules()]
    freeze_stages(network, 3)
    assert list(network.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


METHODS = {
    "moco_v2": ["method.name=moco_v2"],
    "moco_v3": ["method.name=moco_v3", "method.hidden_dim=16"],
    "simsiam": ["method.name=simsiam", "method.hidden_dim=16"],
    "classifier": [
        *("method.name=classifier", "relation.insert_at=backbone", "relation.pairs=plain_keys"),
        *("method.average_from=0.3", "method.layer_decay=0.5"),
    ],
    "metric": [
        *("method.name=metric", "relation.insert_at=backbone", "relation.pairs=plain_keys"),
        *("sampler.name=class_balanced", "sampler.images_per_class=2"),
    ],
}


@pytest.mark.parametrize("method", METHODS)
def test_a_run_keeps_the_first_stages_of_the_file_it_starts_from(
    method: str, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first = build("epochs=1", "optimizer.warmup_epochs=0")
    train(first, tmp_path / "first")
    given = tmp_path / "first" / "backbone.safetensors"
    run = build(f"backbone.init={given}", "backbone.frozen_stages=2", *METHODS[method])
    train(run, tmp_path / "second")
    old, _ = load_backbone(given)
    new, _ = load_backbone(tmp_path / "second" / "backbone.safetensors")
    theirs = old.state_dict()
    kept = {name for name, value in new.state_dict().items() if value.equal(theirs[name])}
    assert kept == {name for name in theirs if name.startswith(("layers.0.", "layers.1."))}


def test_what_cannot_be_frozen_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"frozen_stages: 4 of the 4 stages .* expected fewer"):
        freeze_stages(build_backbone("small_conv"), 4)
    with pytest.raises(InputError, match=r"Linear has no stages.*backbone.frozen_stages=0"):
        freeze_stages(nn.Linear(2, 2), 1)
    with pytest.raises(InputError, match=r"frozen_stages: must be >= 0, got -1"):
        build("backbone.frozen_stages=-1")


def test_frozen_random_values_are_warned_of() -> None:
    notes = build("backbone.frozen_stages=1").notes
    assert any("frozen_stages=1 keeps random values" in note for note in notes)
    assert not any("frozen_stages" in note for note in build().notes)


def test_timms_batch_norm_is_frozen_with_its_activation() -> None:
    pytest.importorskip("timm", reason="models of timm need the extra timm")
    network = started("timm:test_efficientnet").eval()
    expected = network(images())
    freeze_stages(network, 2)
    torch.testing.assert_close(network(images()), expected)
    frozen = [m for m in network.modules() if type(m).__name__ == "FrozenBatchNorm"]
    assert 0 < len(frozen) < len([m for m in network.modules() if isinstance(m, _BatchNorm)])
