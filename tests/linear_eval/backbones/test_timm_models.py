"""Models of timm by name: their width, their input, strict loading, and messages."""

import sys
from pathlib import Path

import pytest
import torch

from linear_eval.backbones.architectures import (
    backbone_to_fill,
    build_backbone,
    expected_tensors,
    feature_dim,
)
from linear_eval.backbones.backbone_file import assemble_backbone, load_backbone, save_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.backbones.opened import open_backbone
from linear_eval.backbones.timm_models import build_timm, timm_model
from linear_eval.system.errors import InputError

timm = pytest.importorskip("timm", reason="models of timm need the extra timm")

HIDDEN_LAYER = "timm:mobilenetv3_small_050"  # its features are wider than num_features
FIXED_SIZE = "timm:test_vit2"
COMPUTED_TENSORS = "timm:test_vit_relpos"  # tensors that are in no state_dict
SMALL = "timm:test_resnet"


@pytest.mark.parametrize("name", [HIDDEN_LAYER, FIXED_SIZE, SMALL, "timm:tf_efficientnet_lite0"])
def test_the_width_is_that_of_the_features(name: str) -> None:
    model = timm_model(name)
    network = build_backbone(name).eval()
    with torch.inference_mode():
        features = network(torch.zeros(2, 3, model.image_size, model.image_size))
    assert features.shape == (2, feature_dim(name))
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert expected_tensors(name) == shapes


def test_a_hidden_layer_after_the_pool_is_part_of_the_backbone() -> None:
    assert feature_dim(HIDDEN_LAYER) == 1024 != timm.create_model(HIDDEN_LAYER[5:]).num_features


def test_mean_std_and_size_are_those_of_the_tag() -> None:
    plain, other = timm_model("timm:resnet18.a1_in1k"), timm_model("timm:tf_efficientnet_lite0")
    assert (plain.image_size, plain.mean[0]) == (224, 0.485)
    assert (other.mean, other.std) == ((0.5,) * 3, (0.5,) * 3)
    assert timm_model("timm:resnet18").name == "timm:resnet18.a1_in1k"


def test_asking_about_a_model_moves_no_generator() -> None:
    timm_model.cache_clear()
    before = torch.get_rng_state()
    timm_model(SMALL)
    backbone_to_fill(SMALL)
    assert torch.equal(before, torch.get_rng_state())


def test_a_model_is_drawn_from_the_global_generator() -> None:
    drawn = []
    for seed in (0, 0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            drawn.append(torch.cat([p.flatten() for p in build_backbone(SMALL).parameters()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("name", [SMALL, FIXED_SIZE, COMPUTED_TENSORS])
def test_a_filled_backbone_computes_what_the_original_does(name: str) -> None:
    # made on the meta device, the tensors that stand in no state_dict would hold anything
    original = build_backbone(name).eval()
    size = timm_model(name).image_size
    assert bool([k for k, _ in original.named_buffers() if k not in original.state_dict()]) == (
        name == COMPUTED_TENSORS
    )
    filled = assemble_backbone(name, original.state_dict())
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(filled(images), original(images))


def test_a_file_names_the_model_and_is_loaded_strictly(tmp_path: Path) -> None:
    model, network = timm_model(SMALL), build_backbone(SMALL).eval()
    info = BackboneInfo(SMALL, model.width, model.image_size, model.mean, model.std)
    save_backbone(tmp_path / "b.safetensors", network, info)
    loaded, said = load_backbone(tmp_path / "b.safetensors")
    assert said.architecture == SMALL
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(loaded(images), network(images))
    with pytest.raises(AssertionError, match="not a plain timm:test_resnet"):
        save_backbone(tmp_path / "c.safetensors", build_backbone("timm:test_vit"), info)


def test_a_model_of_one_size_names_it() -> None:
    network = build_backbone(FIXED_SIZE).eval()
    with pytest.raises(InputError, match=r"96 x 64 pixels, but timm:test_vit2 takes .*image_size="):
        network(torch.zeros(1, 3, 64, 96))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:resnett50", "no model 'resnett50'; did you mean 'timm:resnet50'?"),
        ("timm:resnet50.a1_in1", "no weights 'a1_in1'; did you mean 'timm:resnet50.a1_in1k'?"),
        ("timm:resnet18.zzz", "no weights 'zzz'; known: a1_in1k, "),
        ("timm:", "no model ''"),
        ("timm:qwen3_vit_306m_enc", "expected one row of features"),
    ],
)
def test_a_name_that_timm_lacks_is_one_line_with_the_nearest(name: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        feature_dim(name)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_timm_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"'timm:resnet26' needs timm, .*ssl-bf\[timm\]"):
        build_backbone("timm:resnet26")


def test_pretrained_weights_are_asked_of_timm_and_known_by_their_content(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create, asked = timm.create_model, []

    def offline(name: str, *, num_classes: int, pretrained: bool = False) -> torch.nn.Module:
        asked.append((name, pretrained))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            model: torch.nn.Module = create(name, num_classes=num_classes)
        return model

    monkeypatch.setattr(timm, "create_model", offline)
    first, again = open_backbone("timm:test_resnet"), open_backbone("timm:test_resnet")
    assert ("test_resnet", True) in asked
    assert first.info.architecture == "timm:test_resnet.r160_in1k"
    assert first.info.provenance["title"] == "timm:test_resnet.r160_in1k"
    assert (first.path, first.sha256) == (None, again.sha256)
    assert not any(p.requires_grad for p in first.network.parameters())
    assert not first.network.training


def test_weights_that_cannot_be_had_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match="could not be downloaded .*no route to host"):
        build_timm("timm:resnet18", pretrained=True)
    with pytest.raises(InputError, match="timm has no weights for 'timm:efficientnet_b0_gn'"):
        build_timm("timm:efficientnet_b0_gn", pretrained=True)
