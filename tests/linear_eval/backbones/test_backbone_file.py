import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
import torchvision
from torch import nn

from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_file import (
    backbone_notes,
    file_sha256,
    load_backbone,
    save_backbone,
)
from linear_eval.backbones.backbone_header import BackboneInfo, write_header
from linear_eval.system.errors import InputError

INFO = BackboneInfo(
    architecture="small_conv",
    feature_dim=128,
    image_size=32,
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.25, 0.3),
    provenance={"title": "pretrained without relation", "commit": None, "step": 7},
)


def _trained(architecture: str = "small_conv") -> nn.Module:
    """A backbone whose BatchNorm statistics are those of data, not the initial ones."""
    backbone = build_backbone(architecture)
    with torch.no_grad():
        backbone(torch.randn(8, 3, 32, 32))
    return backbone


def _write(
    path: Path, tensors: dict[str, torch.Tensor], header: dict[str, Any] | str | None
) -> Path:
    text = header if isinstance(header, str) else json.dumps(header)
    metadata = None if header is None else {"backbone": text}
    safetensors.torch.save_file(tensors, path, metadata=metadata)
    return path


def _header(**changes: Any) -> dict[str, Any]:
    return {**INFO.__dict__, **changes}


def _error(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_backbone(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_loaded_backbone_equals_the_saved_one_bit_for_bit(tmp_path: Path) -> None:
    saved = _trained()
    save_backbone(tmp_path / "b.safetensors", saved, INFO)
    loaded, info = load_backbone(tmp_path / "b.safetensors")
    assert info == INFO
    assert loaded.state_dict().keys() == saved.state_dict().keys()
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    images = torch.randn(5, 3, 32, 32)
    assert torch.equal(loaded(images), saved.eval()(images))


def test_a_loaded_backbone_is_frozen_in_eval_mode(tmp_path: Path) -> None:
    save_backbone(tmp_path / "b.safetensors", build_backbone("small_conv"), INFO)
    loaded, _ = load_backbone(tmp_path / "b.safetensors")
    assert not any(module.training for module in loaded.modules())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_loading_draws_nothing_from_the_global_generator(tmp_path: Path) -> None:
    save_backbone(tmp_path / "b.safetensors", build_backbone("small_conv"), INFO)
    before = torch.get_rng_state()
    load_backbone(tmp_path / "b.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


def test_torchvision_reads_the_file_except_fc(tmp_path: Path) -> None:
    info = replace(INFO, architecture="resnet18", feature_dim=512)
    save_backbone(tmp_path / "b.safetensors", _trained("resnet18"), info)
    tensors = safetensors.torch.load_file(tmp_path / "b.safetensors")
    keys = torchvision.models.resnet18().load_state_dict(tensors, strict=False)
    assert set(keys.missing_keys) == {"fc.weight", "fc.bias"}
    assert keys.unexpected_keys == []
    assert int(tensors["bn1.num_batches_tracked"]) == 1


def test_channels_last_weights_are_stored_as_plain_ones(tmp_path: Path) -> None:
    backbone = _trained()
    save_backbone(tmp_path / "a", backbone, INFO)
    save_backbone(tmp_path / "b", backbone.to(memory_format=torch.channels_last), INFO)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b.safetensors"
    save_backbone(path, build_backbone("small_conv"), INFO)
    before = path.read_bytes()

    def no_room(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(InputError, match="cannot be written .No space left"):
        save_backbone(path, build_backbone("small_conv"), INFO)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_wrapped_backbone_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"0\.layers"):
        save_backbone(tmp_path / "b", nn.Sequential(build_backbone("small_conv")), INFO)
    assert list(tmp_path.iterdir()) == []


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"abc" * 1_000_000)
    assert file_sha256(tmp_path / "b") == hashlib.sha256(b"abc" * 1_000_000).hexdigest()


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    assert "no such file" in _error(tmp_path / "b")
    assert "is a folder" in _error(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_refused_and_the_way_out_named(tmp_path: Path, zipped: bool) -> None:
    torch.save({"state_dict": {}}, tmp_path / "b.pth", _use_new_zipfile_serialization=zipped)
    message = _error(tmp_path / "b.pth")
    assert "holds a pickle" in message
    assert "linear-eval convert CHECKPOINT --architecture" in message


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "b"
    save_backbone(path, build_backbone("small_conv"), INFO)
    path.write_bytes(path.read_bytes()[:kept])
    assert ("truncated" if kept in (100, -1) else "no safetensors file") in _error(path)


def test_a_sound_file_that_begins_like_a_pickle_is_read(tmp_path: Path) -> None:
    # byte 0 is the low byte of the header's length: pad the header until it is pickle's 0x80
    path = tmp_path / "b"
    for padding in range(0, 300, 8):
        save_backbone(
            path, build_backbone("small_conv"), replace(INFO, provenance={"x": "y" * padding})
        )
        if path.read_bytes()[0] == 0x80:
            break
    else:
        pytest.fail("no header length ended in 0x80")
    load_backbone(path)


def test_text_is_no_safetensors_file(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("hello, this is no backbone")
    assert "is no safetensors file" in _error(tmp_path / "b")


def test_tensors_without_our_header_are_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "b", build_backbone("small_conv").state_dict(), None)
    assert "does not say which backbone" in _error(path)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("{", "cannot be understood"),
        ("[]", "no JSON object"),
        (_header(format_version=2), "format version 2, expected 1"),
        (_header(architecture="resnet19"), "did you mean 'resnet1"),
        (_header(feature_dim=64), "feature_dim 64 does not belong to small_conv"),
        (_header(image_size=0), "image_size 0"),
        (_header(mean=[0.1, 0.2]), "mean has 2 numbers"),
        (_header(std=[0.1, 0.2, 0.0]), "not above 0"),
        (_header(mean=None), "cannot be understood"),
        ({"format_version": 1, "architecture": "small_conv"}, "missing feature_dim, image_size"),
    ],
)
def test_a_strange_header_is_refused(tmp_path: Path, header: Any, said: str) -> None:
    assert said in _error(_write(tmp_path / "b", build_backbone("small_conv").state_dict(), header))


def test_tensors_of_another_architecture_are_counted_and_the_first_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "b", build_backbone("resnet18").state_dict(), _header())
    message = _error(path)
    assert re.search(r"24 missing: layers\.0\.0\.weight, layers\.0\.1\.bias, .*, \.\.\.;", message)
    assert re.search(r"120 unexpected: bn1\.bias, ", message)


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    info = _header(architecture="resnet18_cifar", feature_dim=512)
    path = _write(tmp_path / "b", build_backbone("resnet18").state_dict(), info)
    assert "1 of another shape: conv1.weight (64, 3, 7, 7) instead of (64, 3, 3, 3)" in _error(path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    backbone = build_backbone("small_conv")
    with torch.no_grad():
        list(backbone.parameters())[-1][5] = float("nan")  # one feature of 128
    save_backbone(tmp_path / "b", backbone, INFO)
    assert "NaN or infinite" in _error(tmp_path / "b")


def test_a_flipped_byte_of_a_weight_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    info = BackboneInfo("small_conv", 128, 32, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    save_backbone(path, build_backbone("small_conv"), info)
    load_backbone(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)
    with pytest.raises(InputError, match="is damaged, its tensors are not those that were written"):
        load_backbone(path)


# The header, sealed


def _change(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the header and nothing else, digests included."""
    with safetensors.safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["backbone"])
    change(header)
    _write(path, safetensors.torch.load_file(path), header)


def _places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in nested dicts and lists."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in inner:
        if isinstance(each, (dict, list)):
            yield from _places(each, (*way, key))
        else:
            yield (*way, key)


def _other(value: Any) -> Any:
    if isinstance(value, str):
        return value[:-1] + ("0" if value[-1:] != "0" else "1")
    return "x" if value is None else value + 1


SEALED = replace(
    INFO, provenance={"title": "a", "seed": 3, "commit": None, "dropped": {"queue": 2}, "list": [1]}
)
HEADER = json.loads(write_header(SEALED, "0" * 64))


@pytest.mark.parametrize("way", list(_places(HEADER)), ids=str)
def test_every_changed_value_of_the_header_is_refused(way: tuple[Any, ...], tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    save_backbone(path, build_backbone("small_conv"), SEALED)
    _change(path, lambda header: None)
    assert load_backbone(path)[1] == SEALED  # written anew and not changed, it is read

    def change(header: dict[str, Any]) -> None:
        *outer, last = way
        for key in outer:
            header = header[key]
        header[last] = _other(header[last])

    _change(path, change)
    said = "format version 2" if way == ("format_version",) else "is damaged, its header"
    assert said in _error(path)


@pytest.mark.parametrize(
    "way", [("mean",), ("provenance",), ("provenance", "seed"), ("image_size",)]
)
@pytest.mark.parametrize("what", ["removed", "renamed", "added"])
def test_every_key_that_came_went_or_is_called_otherwise_is_refused(
    way: tuple[str, ...], what: str, tmp_path: Path
) -> None:
    path = tmp_path / "b.safetensors"
    save_backbone(path, build_backbone("small_conv"), SEALED)

    def change(header: dict[str, Any]) -> None:
        *outer, last = way
        for key in outer:
            header = header[key]
        value = header[last]
        if what != "added":
            del header[last]
        if what != "removed":
            header[f"{last}x"] = value

    _change(path, change)
    assert "is damaged, its header" in _error(path)


def test_a_damaged_name_of_a_digest_is_no_absent_digest(tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    save_backbone(path, build_backbone("small_conv"), SEALED)
    _change(path, lambda header: header.update(header_sha257=header.pop("header_sha256")))
    assert "unknown header_sha257" in _error(path)


def test_any_flipped_byte_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    save_backbone(path, build_backbone("small_conv"), SEALED)
    whole = path.read_bytes()
    weights = load_backbone(path)[0].state_dict()
    length = int.from_bytes(whole[:8], "little")
    for place in [*range(8), *range(8, 8 + length, 29), *range(8 + length, len(whole), 40_009)]:
        data = bytearray(whole)
        data[place] ^= 0x01
        path.write_bytes(data)
        try:
            backbone, info = load_backbone(path)
        except InputError:
            continue
        assert info == SEALED, (place, bytes(data[place - 9 : place + 9]))
        assert all(torch.equal(weights[k], v) for k, v in backbone.state_dict().items()), place


@pytest.mark.parametrize("digests", [(), ("tensors_sha256",)])
def test_a_file_of_an_earlier_version_is_read_and_says_what_cannot_be_known(
    digests: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "b.safetensors"
    save_backbone(path, build_backbone("small_conv"), SEALED)
    assert backbone_notes(path) == []

    def age(header: dict[str, Any]) -> None:
        for name in {"tensors_sha256", "header_sha256"} - {*digests}:
            del header[name]

    _change(path, age)
    assert load_backbone(path)[1] == SEALED
    (note,) = backbone_notes(path)
    assert note.startswith(f"{path}: written by an earlier version, without a digest of its header")
    assert "mean, std, seed" in note
    assert ("and weights are what was written" in note) == (not digests)
    assert "\n" not in note


def test_numbers_of_another_type_are_refused(tmp_path: Path) -> None:
    tensors = build_backbone("small_conv").state_dict()
    tensors["layers.0.0.weight"] = tensors["layers.0.0.weight"].view(torch.int32)
    path = _write(tmp_path / "b", tensors, _header())
    assert "1 of another type: layers.0.0.weight torch.int32 instead of torch.float32" in _error(
        path
    )


def test_a_mean_that_is_no_number_is_refused(tmp_path: Path) -> None:
    header = _header(mean=[0.1, float("nan"), 0.2])
    assert "not finite" in _error(
        _write(tmp_path / "b", build_backbone("small_conv").state_dict(), header)
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("data: {name: domains, test_domain: a b}", {"name": "domains", "test_domain": "a b"}),
        ("data: 3", {}),
        ("[1, 2", {}),
        ("[" * 5000, {}),
        (None, {}),
    ],
)
def test_what_a_backbone_was_trained_on_is_read_and_nothing_else(config: Any, said: Any) -> None:
    assert replace(INFO, provenance={"config": config}).pretraining_data == said
