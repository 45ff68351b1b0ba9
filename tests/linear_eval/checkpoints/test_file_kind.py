"""Wrappers in any order, averaged weights, and files that are named because they are not read."""

import gzip
import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from linear_eval.backbones.backbone_file import load_backbone
from linear_eval.checkpoints.convert import ImageFacts, convert
from linear_eval.system.errors import InputError

State = dict[str, Tensor]
HALF = (0.5, 0.5, 0.5)


def at(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.fixture(scope="module")
def own() -> State:
    """A torchvision ResNet-18 without classifier."""
    torch.manual_seed(5)
    state = torchvision.models.resnet18().state_dict()
    return {k: v for k, v in state.items() if not k.startswith("fc.")}


def other(state: State) -> State:
    return {name: tensor + 1 for name, tensor in state.items()}


def run(path: Path) -> Path:
    output = path.with_name("out")
    images = ImageFacts(size=32, mean=HALF, std=HALF)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none of torch may reach the screen
        convert(path, architecture="resnet18", output=output, images=images, overwrite=False)
    return output


def read(path: Path, own: State) -> str:
    """Assert that the tensors are taken over; the name of the layout."""
    backbone, info = load_backbone(run(path))
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, own[name]), name
    return str(info.provenance["layout"])


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        run(path)
    assert "\n" not in str(caught.value)
    assert not path.with_name("out").exists()
    return str(caught.value)


def write(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "wrapper",
    [
        *("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.module."),
        *("module.model.", "model.", "model.model.", "model._orig_mod.module.", "net.model."),
        *("_fsdp_wrapped_module.", "_orig_mod._fsdp_wrapped_module.module.", "network.module."),
    ],
)
def test_wrappers_are_seen_through(wrapper: str, own: State, tmp_path: Path) -> None:
    state = at("encoder_q.", own) | at("encoder_k.", other(own))
    read(write(tmp_path / "a.pth", {"state_dict": at(wrapper, state)}), own)


def test_wrappers_inside_the_network_are_seen_through(own: State, tmp_path: Path) -> None:
    def wrapped(name: str) -> str:
        block = "_fsdp_wrapped_module._checkpoint_wrapped_module."
        return name.replace("layer1.0.", f"layer1.0.{block}").replace(
            "layer2.", "layer2._orig_mod."
        )

    state = {f"module.encoder_q._orig_mod.{wrapped(name)}": each for name, each in own.items()}
    read(write(tmp_path / "a.pth", {"state_dict": state}), own)


@pytest.mark.parametrize(
    "levels",
    [
        *("module", "model", "network", "state_dict/module", "checkpoint/model"),
        *("model/state_dict", "net/weights"),
    ],
)
def test_containers_are_opened_in_any_depth(levels: str, own: State, tmp_path: Path) -> None:
    content: Any = own
    for level in reversed(levels.split("/")):
        content = {level: content, "epoch": 3, "lr": 0.1}
    read(write(tmp_path / "mp_rank_00_model_states.pt", content), own)


AVERAGED = ["ema", "model_ema", "state_dict_ema", "ema_state_dict", "teacher", "module_ema"]


@pytest.mark.parametrize("name", AVERAGED)
@pytest.mark.parametrize("wrapper", ["", "module."])
def test_averaged_weights_alone_are_read_and_named(
    name: str, wrapper: str, own: State, tmp_path: Path
) -> None:
    content = {name: at(wrapper, own), "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}
    assert read(write(tmp_path / "a.pth", content), own).endswith("averaged weights (EMA)")


@pytest.mark.parametrize("name", AVERAGED[:4])
def test_beside_the_weights_averaged_ones_are_dropped(
    name: str, own: State, tmp_path: Path
) -> None:
    content = {"model": own, name: other(own)}
    assert "EMA" not in read(write(tmp_path / "a.pth", content), own)


def test_a_tensor_among_averaged_weights_is_accounted_for(own: State, tmp_path: Path) -> None:
    content = {"ema": own | {"gadget.weight": torch.ones(1)}}
    assert "ema/gadget.weight" in refused(write(tmp_path / "a.pth", content))


def swav(own: State) -> State:
    head = at("projection_head.", nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4)).state_dict())
    return at("module.", own | head | {"prototypes.weight": torch.ones(30, 4)})


@pytest.mark.parametrize("inside", [False, True])
def test_swav_is_read(inside: bool, own: State, tmp_path: Path) -> None:
    content = {"state_dict": swav(own), "epoch": 800} if inside else swav(own)
    path = write(tmp_path / "swav_800ep_pretrain.pth.tar", content)
    assert read(path, own) == "official SwAV / DeepCluster-v2"
    dropped = load_backbone(tmp_path / "out")[1].provenance["dropped"]
    assert dropped == {"projector": 7, "prototypes": 1}


def hugging_face(own: State) -> State:
    names = {}
    for name in own:
        theirs = name
        for k in (1, 2):
            theirs = theirs.replace(f".conv{k}.", f".layer.{k - 1}.convolution.")
            theirs = theirs.replace(f".bn{k}.", f".layer.{k - 1}.normalization.")
        theirs = theirs.replace("downsample.0", "shortcut.convolution")
        theirs = theirs.replace("downsample.1", "shortcut.normalization")
        for i in (1, 2, 3, 4):
            if theirs.startswith(f"layer{i}."):
                theirs = theirs.replace(f"layer{i}.", f"encoder.stages.{i - 1}.layers.", 1)
        theirs = theirs.replace("conv1.weight", "embedder.embedder.convolution.weight")
        names[name] = f"resnet.{theirs.replace('bn1.', 'embedder.embedder.normalization.')}"
    state = {names[name]: tensor for name, tensor in own.items()}
    return state | {"classifier.1.weight": torch.ones(3, 512), "classifier.1.bias": torch.ones(3)}


def test_a_resnet_of_hugging_face_is_read(own: State, tmp_path: Path) -> None:
    safetensors.torch.save_file(hugging_face(own), tmp_path / "model.safetensors")
    read(tmp_path / "model.safetensors", own)


@pytest.mark.parametrize(
    "prefix", ["backbone.", "encoder.", "feature_extractor.", "base_model.", "timm_model."]
)
def test_a_prefix_of_everything_is_seen_through(prefix: str, own: State, tmp_path: Path) -> None:
    safetensors.torch.save_file(at(prefix, own), tmp_path / "pytorch_model.bin")  # a wrong suffix
    read(tmp_path / "pytorch_model.bin", own)


def test_a_torch_file_may_be_called_safetensors(own: State, tmp_path: Path) -> None:
    read(write(tmp_path / "a.safetensors", own), own)


def test_vissl_is_read(own: State, tmp_path: Path) -> None:
    model = {"trunk": at("_feature_blocks.", own), "heads": {"0.clf.weight": torch.ones(2)}}
    content = {"classy_state_dict": {"base_model": {"model": model}}, "phase_idx": 3}
    assert read(write(tmp_path / "a.torch", content), own) == "vissl"


# Named, with the way out


class Options(dict[str, Any]):
    """Stands for a class of somebody's config."""


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", ["lightning", "whole", "part", "optional"])
def test_a_pickle_that_needs_code_is_named_and_the_line_works(
    kind: str,
    zipped: bool,
    own: State,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = torchvision.models.resnet18()
    content, said = {
        "lightning": (
            {
                "state_dict": at("model.", own),
                "hyper_parameters": Options(lr=0.1),
                "pytorch-lightning_version": "2.4.0",
            },
            "is a Lightning checkpoint whose hyper-parameters",
        ),
        "whole": (model, "is a whole model that torch.save(model) wrote"),
        "part": ({"model": model, "epoch": 3}, "is a checkpoint that holds objects"),
        "optional": ({"state_dict": own, "best": Path("x")}, "is a checkpoint that holds objects"),
    }[kind]
    path = tmp_path / "their.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    message = refused(path)
    assert said in message
    line = message[message.index("import torch") :]
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(line, {})
    convert_again = run(tmp_path / "their.tensors.pth")
    assert load_backbone(convert_again)[1].architecture == "resnet18"


def test_torchscript_is_named_and_the_line_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torchvision.models.resnet18().eval()
        torch.jit.trace(model, torch.zeros(1, 3, 32, 32)).save(str(tmp_path / "script.pt"))
    message = refused(tmp_path / "script.pt")
    assert "is a TorchScript archive" in message
    assert "truncated or damaged" not in message
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(message[message.index("import torch") :], {})
    read(tmp_path / "script.tensors.pth", model.state_dict())


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(3))
    return buffer.getvalue()


def plain_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.pth", b"", "is empty"),
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS"),
        ("a.pth", b"<!DOCTYPE html><html>404</html>", "is a web page"),
        ("a.pth.gz", gzip.compress(b"x" * 100, mtime=0), "compressed with gzip"),
        ("a.npz", npz(), "an archive of NumPy"),
        ("a.zip", plain_zip(), "a zip archive of readme.txt"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(40), "an HDF5 file"),
        ("a.onnx", b"\x08\x07\x12\x07pytorch" + bytes(20), "an ONNX graph"),
        (
            "model.safetensors.index.json",
            json.dumps({"metadata": {}, "weight_map": {"a": "b"}}).encode(),
            "in several files",
        ),
    ],
)
def test_a_file_of_another_kind_is_named(name: str, data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    assert said in refused(tmp_path / name)


def test_a_distributed_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "dcp").mkdir()
    (tmp_path / "dcp" / ".metadata").touch()
    assert "dcp_to_torch" in refused(tmp_path / "dcp")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"_fsdp_wrapped_module._flat_param": torch.ones(9)}, "FSDP's flat pieces"),
        ({"module": {"conv1.weight": torch.ones(0), "bn1.bias": torch.ones(0)}}, "ZeRO-3"),
        ({"student": {"backbone.conv1.weight": torch.ones(2)}}, "a student"),
        ({"vit.embeddings.cls_token": torch.ones(1, 1, 8)}, "Hugging Face's vision transformer"),
    ],
)
def test_a_known_checkpoint_that_is_not_read_is_named(
    content: dict[str, Any], said: str, tmp_path: Path
) -> None:
    assert said in refused(write(tmp_path / "a.pth", content))


def test_two_encoders_are_not_chosen_from(own: State, tmp_path: Path) -> None:
    content = {"model": own, "module": other(own)}
    assert "belong to no known group" in refused(write(tmp_path / "a.pth", content))
    content = {"ema": own, "model_ema": other(own)}
    refused(write(tmp_path / "b.pth", content))
