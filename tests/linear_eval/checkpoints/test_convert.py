"""Each checkpoint is written here with the key layout of the suite it stands for."""

import argparse
import copy
import functools
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from linear_eval.backbones.backbone_file import load_backbone, save_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.backbones.vision_transformers import VISION_TRANSFORMERS, fixed_positions
from linear_eval.checkpoints.convert import ImageFacts, convert
from linear_eval.system.errors import InputError

State = dict[str, Tensor]
IMAGENET = ImageFacts(size=None, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
WHY_TIMM = "vision transformers need the extra timm"


def at(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def lived_in(model: nn.Module) -> nn.Module:
    """Every parameter and statistic away from its initial value, as training leaves them."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("num_batches_tracked"):
                tensor.fill_(9)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 2, generator=generator)
            else:
                tensor += 0.02 * torch.randn(tensor.shape, generator=generator)
    return model.eval()


@functools.cache
def resnet18(*, padding: int | None = None) -> nn.Module:
    """torchvision's, without classifier; with a padding, its stem is made for CIFAR."""
    torch.manual_seed(5)
    model: nn.Module = torchvision.models.resnet18()
    model.fc = nn.Identity()
    if padding is not None:
        model.conv1 = nn.Conv2d(3, 64, 3, padding=padding, bias=False)
        model.maxpool = nn.Identity()
    return lived_in(model)


def other(state: State) -> State:
    """The same tensors with other values: the encoder that must not be taken."""
    return {name: tensor + 1 for name, tensor in state.items()}


def mlp(prefix: str) -> State:
    return at(prefix, nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)).state_dict())


def moco(model: nn.Module) -> Any:
    own = model.state_dict() | mlp("fc.")
    state = at("encoder_q.", own) | at("encoder_k.", other(own))
    state |= {"queue": torch.randn(8, 16), "queue_ptr": torch.zeros(1, dtype=torch.long)}
    sgd = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.03}]}
    return {
        "epoch": 200,
        "arch": "resnet18",
        "state_dict": at("module.", state),
        "optimizer": sgd,
    }


def moco_v1(model: nn.Module) -> Any:
    own = model.state_dict() | {"fc.weight": torch.ones(128, 512), "fc.bias": torch.ones(128)}
    return {"state_dict": at("module.encoder_q.", own) | at("module.encoder_k.", other(own))}


def moco_v3(model: nn.Module) -> Any:
    own = model.state_dict() | mlp("fc.")
    state = at("base_encoder.", own) | at("momentum_encoder.", other(own)) | mlp("predictor.")
    return {"state_dict": at("module.", state), "optimizer": {"state": {}}, "scaler": {"scale": 1}}


def simsiam(model: nn.Module) -> Any:
    state = at("encoder.", model.state_dict() | mlp("fc.")) | mlp("predictor.")
    return {"state_dict": at("module.", state)}


def dino(model: nn.Module) -> Any:
    own = at("backbone.", model.state_dict()) | mlp("head.mlp.")
    own["head.last_layer.weight_g"] = torch.ones(4, 1)
    return {
        "student": at("module.", other(own)),
        "teacher": own,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}},
        "dino_loss": {"center": torch.zeros(1, 4)},
        "epoch": 1,
        "args": argparse.Namespace(arch="resnet18", lr=0.1),
    }


def dino_batch_norm(model: nn.Module) -> Any:
    return dino(model) | {"teacher": at("module.", dino(model)["teacher"])}


def lightly_children(model: nn.Module) -> Any:
    sequential = nn.Sequential(*list(model.children())[:-1]).state_dict()
    state = at("backbone.", sequential) | at("backbone_momentum.", other(sequential))
    state |= mlp("projection_head.layers.") | mlp("projection_head_momentum.layers.")
    state |= {"criterion.memory_bank.bank": torch.zeros(2, 4)}
    return {
        "state_dict": state,
        "epoch": 3,
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.3)}},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.ones(2)}}}],
    }


def lightly_benchmark(model: nn.Module) -> Any:
    own = model.state_dict()
    state = (
        at("backbone.", own) | at("query_backbone.", other(own)) | mlp("projection_head.layers.")
    )
    state |= mlp("query_projection_head.layers.") | mlp("online_classifier.")
    return {"state_dict": state}


def lightly_teacher(model: nn.Module) -> Any:
    own = model.state_dict()
    state = at("teacher_backbone.", own) | at("student_backbone.", other(own))
    return at("", state | mlp("teacher_head.layers.") | mlp("student_head.layers."))


def solo_learn(model: nn.Module) -> Any:
    own = model.state_dict()
    state = at("backbone.", own) | at("momentum_backbone.", other(own)) | mlp("projector.")
    state |= mlp("momentum_projector.") | mlp("classifier.") | mlp("momentum_classifier.")
    state |= {"queue": torch.zeros(2, 4, 8), "queue_ptr": torch.zeros(1, dtype=torch.long)}
    return {"state_dict": state, "hyper_parameters": {"method": "mocov2plus"}}


def solo_learn_2021(model: nn.Module) -> Any:
    return {
        "state_dict": at("encoder.", model.state_dict()) | mlp("projector.") | mlp("classifier.")
    }


def mmpretrain(model: nn.Module) -> Any:
    own = model.state_dict()
    state = at("backbone.", own) | mlp("neck.mlp.") | mlp("head.predictor.")
    state |= at("encoder_k.module.0.", other(own)) | mlp("encoder_k.module.1.")
    state |= {"encoder_k.steps": torch.tensor(4), "queue": torch.zeros(4, 8)}
    return {"meta": {"epoch": 200}, "state_dict": state}


def mmselfsup_2022(model: nn.Module) -> Any:
    own = model.state_dict()
    state = at("backbone.", own) | at("encoder_q.0.", own) | mlp("encoder_q.1.mlp.")
    return {"state_dict": state | at("encoder_k.0.", other(own)) | mlp("encoder_k.1.mlp.")}


def torchvision_or_timm(model: nn.Module) -> Any:
    return model.state_dict() | {"fc.weight": torch.ones(1000, 512), "fc.bias": torch.ones(1000)}


def timm_training(model: nn.Module) -> Any:
    own = torchvision_or_timm(model)
    return {"arch": "resnet18", "state_dict": own, "state_dict_ema": other(own), "version": 2}


def linear_probe(model: nn.Module) -> Any:
    state = at("module.", torchvision_or_timm(model))
    return {"state_dict": state, "best_acc1": torch.tensor(71.1), "optimizer": {"state": {}}}


RESNET_LAYOUTS: list[tuple[Callable[[nn.Module], Any], str, dict[str, int]]] = [
    (
        moco,
        "official MoCo v1/v2",
        {"projector": 4, "momentum encoder": 124, "queue": 2, "optimiser": 1},
    ),
    (moco_v1, "official MoCo v1/v2", {"projector": 2, "momentum encoder": 122}),
    (moco_v3, "official MoCo v3", {"projector": 4, "momentum encoder": 124, "predictor": 4}),
    (simsiam, "official SimSiam", {"projector": 4, "predictor": 4}),
    (dino, "DINO (teacher)", {"student": 125, "projector": 5, "optimiser": 1, "loss state": 1}),
    (
        dino_batch_norm,
        "DINO (teacher)",
        {"student": 125, "projector": 5, "optimiser": 1, "loss state": 1},
    ),
    (
        lightly_children,
        "lightly",
        {
            "momentum encoder": 120,
            "projector": 4,
            "momentum projector": 4,
            "loss state and memory bank": 1,
            "training state": 1,
            "optimiser": 1,
        },
    ),
    (
        lightly_benchmark,
        "lightly",
        {
            "query or student encoder": 120,
            "projector": 4,
            "query or student projector": 4,
            "online classifier": 4,
        },
    ),
    (
        lightly_teacher,
        "lightly (teacher)",
        {
            "query or student encoder": 120,
            "momentum projector": 4,
            "query or student projector": 4,
        },
    ),
    (
        solo_learn,
        "solo-learn",
        {
            "momentum encoder": 120,
            "projector": 4,
            "momentum projector": 4,
            "online classifier": 8,
            "queue": 2,
        },
    ),
    (solo_learn_2021, "solo-learn", {"projector": 4, "online classifier": 4}),
    (
        mmpretrain,
        "mmpretrain / mmselfsup",
        {"projector": 4, "classifier or predictor": 4, "momentum encoder": 125, "queue": 1},
    ),
    (
        mmselfsup_2022,
        "mmpretrain / mmselfsup",
        {"query encoder, listed twice": 124, "momentum encoder": 124},
    ),
    (torchvision_or_timm, "torchvision, timm, DINO or extracted", {"classifier": 2}),
    (
        timm_training,
        "torchvision, timm, DINO or extracted",
        {"classifier": 2, "averaged weights (EMA)": 122},
    ),
    (linear_probe, "torchvision, timm, DINO or extracted", {"classifier": 2, "counters": 1}),
]


def write(path: Path, checkpoint: Any) -> Path:
    torch.save(checkpoint, path)
    return path


def run(
    checkpoint: Path, architecture: str = "resnet18", *, overwrite: bool = False, **facts: Any
) -> Path:
    output = checkpoint.parent / "out.safetensors"
    convert(
        checkpoint,
        architecture=architecture,
        output=output,
        images=ImageFacts(**{**IMAGENET.__dict__, **facts}),
        overwrite=overwrite,
    )
    return output


def refused(checkpoint: Path, architecture: str = "resnet18") -> str:
    before = sorted(checkpoint.parent.iterdir())
    with pytest.raises(InputError) as caught:
        run(checkpoint, architecture)
    assert "\n" not in str(caught.value)
    assert sorted(checkpoint.parent.iterdir()) == before
    return str(caught.value)


def assert_same(output: Path, model: nn.Module, size: int = 64) -> None:
    backbone, _ = load_backbone(output)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        features = model(images).flatten(1)
        assert bool(features.std(0).mean() > 1e-3)  # the two images do differ
        assert torch.equal(backbone(images), features)


@pytest.mark.parametrize(
    ("layout", "name", "dropped"), RESNET_LAYOUTS, ids=[row[0].__name__ for row in RESNET_LAYOUTS]
)
def test_the_features_of_a_resnet_are_the_sources_bit_for_bit(
    layout: Callable[[nn.Module], Any], name: str, dropped: dict[str, int], tmp_path: Path
) -> None:
    model = resnet18()
    output = run(write(tmp_path / "their.pth.tar", layout(model)))
    assert_same(output, model)
    provenance = load_backbone(output)[1].provenance
    assert (provenance["layout"], provenance["dropped"]) == (name, dropped)


def test_the_file_says_where_it_came_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "moco_v2.pth.tar", moco(resnet18()))
    output = run(path, size=96, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    _, info = load_backbone(output)
    assert info.provenance == {
        "title": "moco_v2",
        "source": "moco_v2.pth.tar",
        "source_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "layout": "official MoCo v1/v2",
        "prefix": "state_dict/module.encoder_q.",
        "names": "torchvision / timm names",
        "dropped": {"projector": 4, "momentum encoder": 124, "queue": 2, "optimiser": 1},
    }
    assert (info.image_size, info.mean, info.std) == (96, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert capsys.readouterr().out == (
        "layout: official MoCo v1/v2; backbone at 'state_dict/module.encoder_q.', "
        "torchvision / timm names\n"
        "used: 120 tensors as resnet18 (D = 512)\n"
        "dropped: projector 4, momentum encoder 124, queue 2, optimiser 1\n"
        "images: --image-size 96 --mean 0.1,0.2,0.3 --std 0.4,0.5,0.6; "
        "a checkpoint does not say, so give them if it was trained otherwise\n"
        f"written: {output}\n"
    )


def test_lightlys_own_cifar_resnet_is_the_cifar_stem(tmp_path: Path) -> None:
    from lightly.models import ResNetGenerator

    torch.manual_seed(0)
    theirs = lived_in(ResNetGenerator("resnet-18"))
    body = nn.Sequential(*list(theirs.children())[:-1])
    # its forward has relu and pooling between the children
    reference = nn.Sequential(
        body[0], body[1], nn.ReLU(), body[2:], nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    numbered = write(
        tmp_path / "a.pth", at("backbone.", body.state_dict()) | mlp("projection_head.")
    )
    output = run(numbered, "resnet18_cifar")
    assert_same(output, reference.eval(), size=32)
    assert load_backbone(output)[1].image_size == 32
    assert_same(
        run(write(tmp_path / "b.pth", theirs.state_dict()), "resnet18_cifar", overwrite=True),
        reference,
        size=32,
    )


def test_the_cifar_stem_of_solo_learn_pads_by_2(tmp_path: Path) -> None:
    model = resnet18(padding=2)
    path = write(tmp_path / "a.ckpt", solo_learn(model))
    assert "use --architecture resnet18_cifar_padding2" in refused(path, "resnet18_cifar")
    assert_same(run(path, "resnet18_cifar_padding2"), model, size=32)


def test_the_cifar_stem_of_everyone_else_pads_by_1(tmp_path: Path) -> None:
    model = resnet18(padding=1)
    assert_same(run(write(tmp_path / "a.ckpt", moco(model)), "resnet18_cifar"), model, size=32)


def test_files_from_before_num_batches_tracked_are_read(tmp_path: Path) -> None:
    model = resnet18()
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("batches_tracked")}
    assert_same(run(write(tmp_path / "a.pth", state)), model)


def test_half_precision_is_taken_over_exactly(tmp_path: Path) -> None:
    state = {
        k: v.half() if v.is_floating_point() else v for k, v in resnet18().state_dict().items()
    }
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    backbone, _ = load_backbone(run(tmp_path / "a.safetensors"))
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, state[name].to(tensor.dtype)), name
        assert tensor.dtype in (torch.float32, torch.int64)


# What is refused


def test_a_wrong_prefix_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth", at("net.trunk.", resnet18().state_dict()))
    message = refused(path)
    assert message.startswith(f"{path}: checkpoint: no known layout finds a tensor of resnet18")
    assert "net.trunk" in message


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    checkpoint = moco(resnet18())
    del checkpoint["state_dict"]["module.encoder_q.layer3.0.conv2.weight"]
    message = refused(write(tmp_path / "a.pth", checkpoint))
    assert "has 119 tensors of resnet18 and lacks 1 (layout: official MoCo v1/v2" in message
    assert "): layer3.0.conv2.weight; it was saved in part or damaged" in message
    assert "--architecture" not in message


def test_tensors_of_no_known_group_are_named(tmp_path: Path) -> None:
    checkpoint = moco(resnet18())
    checkpoint["state_dict"] |= at("module.", {f"gadget.{i}": torch.ones(1) for i in range(12)})
    message = refused(write(tmp_path / "a.pth", checkpoint))
    assert "12 tensors beside the resnet18 belong to no known group" in message
    assert "state_dict/module.gadget.0, " in message
    assert message.count("gadget") == 10
    assert ", ...; save" in message


@pytest.mark.parametrize("inner", ["extra.weight", "fc_extra.weight", "layer1.2.conv1.weight"])
def test_an_extra_tensor_inside_the_encoder_is_refused(inner: str, tmp_path: Path) -> None:
    checkpoint = moco(resnet18())
    checkpoint["state_dict"][f"module.encoder_q.{inner}"] = torch.ones(1)
    assert f"state_dict/module.encoder_q.{inner}" in refused(write(tmp_path / "a.pth", checkpoint))


@pytest.mark.parametrize("architecture", ["resnet34", "resnet50", "resnet18_cifar", "small_conv"])
def test_another_architecture_is_refused(architecture: str, tmp_path: Path) -> None:
    message = refused(write(tmp_path / "a.pth", moco(resnet18())), architecture)
    assert architecture in message
    assert "give the --architecture" in message


def test_a_deeper_checkpoint_is_no_shallower_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth", torchvision.models.resnet34().state_dict())
    assert "beside the resnet18 belong to no known group" in refused(path)


def test_two_encoders_that_fit_are_refused(tmp_path: Path) -> None:
    own = resnet18().state_dict()
    checkpoint = {"state_dict": own, "model": other(own)}
    assert "belong to no known group" in refused(write(tmp_path / "a.pth", checkpoint))


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = resnet18().state_dict()
    state["layer4.1.bn2.bias"] = torch.full((512,), float("inf"))
    message = refused(write(tmp_path / "a.pth", state))
    assert "layer4.1.bn2.bias holds NaN or infinite values" in message


def test_float64_is_not_rounded_unseen(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth", copy.deepcopy(resnet18()).double().state_dict())
    assert "is torch.float64" in refused(path)


def test_a_damaged_file_and_one_that_needs_code_write_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth", moco(resnet18()))
    path.write_bytes(path.read_bytes()[:-1000])
    assert "truncated or damaged" in refused(path)
    assert "needs 'torch.nn" in refused(write(tmp_path / "b.pth", nn.Linear(2, 2)))


def test_a_file_that_exists_is_replaced_only_when_asked(tmp_path: Path) -> None:
    model = resnet18()
    path = write(tmp_path / "a.pth", moco(model))
    output = tmp_path / "out.safetensors"
    output.write_text("precious")
    assert "exists already; give another path or --overwrite" in refused(path)
    assert output.read_text() == "precious"
    assert_same(run(path, overwrite=True), model)


def test_the_checkpoint_is_never_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path / "out.safetensors", moco(resnet18()))
    with pytest.raises(InputError, match="is the checkpoint itself"):
        run(path, overwrite=True)


@pytest.mark.parametrize(
    ("facts", "said"),
    [({"size": -1}, "--image-size: must"), ({"std": (0.1, 0.0, 0.1)}, "--std: must be above 0")],
)
def test_impossible_image_facts_are_refused(
    facts: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        run(write(tmp_path / "a.pth", moco(resnet18())), **facts)


# Vision transformers


@functools.cache
def vit(*, heads: int = 3, width: int = 192, fixed: bool = False) -> nn.Module:
    timm = pytest.importorskip("timm", reason=WHY_TIMM)
    torch.manual_seed(2)
    model: nn.Module = timm.models.vision_transformer.VisionTransformer(
        embed_dim=width, num_heads=heads, num_classes=0, dynamic_img_size=True
    )
    lived_in(model)
    if fixed:
        with torch.no_grad():
            model.get_parameter("pos_embed").copy_(
                fixed_positions(VISION_TRANSFORMERS["vit_small_moco_v3"])
            )
    return model


def mmpretrain_vit_names(state: State) -> State:
    rules = {
        r"^patch_embed\.proj": "patch_embed.projection",
        r"^blocks\.(\d+)\.norm": r"layers.\1.ln",
        r"^blocks\.(\d+)\.mlp\.fc1": r"layers.\1.ffn.layers.0.0",
        r"^blocks\.(\d+)\.mlp\.fc2": r"layers.\1.ffn.layers.1",
        r"^blocks": "layers",
        r"^norm": "ln1",
    }
    for pattern, theirs in rules.items():
        state = {re.sub(pattern, theirs, name): tensor for name, tensor in state.items()}
    return state


def lightly_vit(state: State) -> State:
    student = {"student_backbone.mask_token": torch.zeros(1, 1, 192)}
    teacher = at("backbone.vit.", state) | {"backbone.mask_token": torch.zeros(1, 1, 192)}
    teacher |= {
        "backbone.vit.head.weight": torch.ones(10, 192),
        "backbone.vit.head.bias": torch.ones(10),
    }
    return teacher | student | at("student_backbone.vit.", other(state)) | mlp("projection_head.")


VIT_LAYOUTS: dict[str, Callable[[State], Any]] = {
    "timm": lambda state: state | {"head.weight": torch.ones(7, 192), "head.bias": torch.ones(7)},
    "DINO, published backbone": lambda state: state,
    "DINO, whole": lambda state: {
        "teacher": at("backbone.", state) | mlp("head."),
        "student": at("module.backbone.", other(state)),
        "args": argparse.Namespace(arch="vit_tiny"),
    },
    "lightly": lambda state: {"state_dict": lightly_vit(state)},
    "solo-learn": lambda state: {"state_dict": at("backbone.", state) | mlp("classifier.")},
    "mmpretrain": lambda state: {
        "state_dict": at("backbone.", mmpretrain_vit_names(state)) | mlp("neck.")
    },
}


@pytest.mark.parametrize("layout", VIT_LAYOUTS)
def test_the_features_of_a_vit_are_the_sources_bit_for_bit(layout: str, tmp_path: Path) -> None:
    model = vit()
    path = write(tmp_path / "a.pth", VIT_LAYOUTS[layout](model.state_dict()))
    assert_same(run(path, "vit_tiny_patch16_224"), model, size=224 if layout == "timm" else 32)


def test_moco_v3s_vit_keeps_its_12_heads(tmp_path: Path) -> None:
    model = vit(heads=12, width=384, fixed=True)
    own = model.state_dict() | mlp("head.")
    state = at("base_encoder.", own) | at("momentum_encoder.", other(own)) | mlp("predictor.")
    path = write(tmp_path / "vit-s.pth.tar", {"state_dict": at("module.", state)})
    assert "use --architecture vit_small_moco_v3" in refused(path, "vit_small_patch16_224")
    assert_same(run(path, "vit_small_moco_v3"), model, size=32)


def test_a_vit_of_6_heads_is_not_moco_v3s(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth", vit(heads=6, width=384).state_dict())
    assert "use --architecture vit_small_patch16_224" in refused(path, "vit_small_moco_v3")


def test_torchvisions_vit_computes_the_same_within_rounding(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason=WHY_TIMM)
    model = lived_in(
        torchvision.models.VisionTransformer(
            image_size=224, patch_size=16, num_layers=12, num_heads=3, hidden_dim=192, mlp_dim=768
        )
    )
    path = write(tmp_path / "a.pth", model.state_dict())
    backbone, info = load_backbone(run(path, "vit_tiny_patch16_224"))
    assert info.provenance["dropped"] == {"classifier": 2}
    model.heads = nn.Identity()
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        # another attention kernel: the sums are the same, their order is not
        torch.testing.assert_close(backbone(images), model(images), rtol=1e-4, atol=1e-4)


def test_a_size_that_cannot_be_cut_into_patches_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason=WHY_TIMM)
    with pytest.raises(InputError, match="--image-size: 100 is no multiple of the patch"):
        run(tmp_path / "a.pth", "vit_tiny_patch16_224", size=100)


def test_a_file_that_is_a_backbone_file_already_is_refused(tmp_path: Path) -> None:
    ours, again = tmp_path / "ours.safetensors", tmp_path / "again.safetensors"
    info = BackboneInfo("resnet18", 512, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), {"title": "a test"})
    save_backbone(ours, resnet18(), info)
    with pytest.raises(InputError, match=r"ours.safetensors: is a backbone file already, expected"):
        convert(ours, architecture="resnet18", output=again, images=IMAGENET, overwrite=False)
    assert not again.exists()
