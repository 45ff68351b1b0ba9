"""The hand-over file: a backbone's tensors under plain keys, and how to use them in the header.

The file is a safetensors file (tensors and text, no code). Its metadata holds one JSON object under
the key `backbone`. `torchvision.models.resnet18().load_state_dict(...)` accepts the tensors once
`fc` is excepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open

from linear_eval.backbones.architectures import (
    CUSTOM,
    backbone_to_fill,
    expected_state,
    feature_dim,
)
from linear_eval.backbones.backbone_header import (
    BackboneInfo,
    ChangedHeader,
    Header,
    read_header,
    unsealed_note,
    write_header,
)
from linear_eval.backbones.own_module import expected_of, filled
from linear_eval.backbones.tensors_digest import tensors_sha256
from linear_eval.system.atomic_file import atomic_file
from linear_eval.system.atomic_file import file_sha256 as file_sha256
from linear_eval.system.errors import InputError, require_backbone

if TYPE_CHECKING:
    from torch import Tensor, nn

_HEADER_KEY = "backbone"
_CONVERT = (
    "make a backbone file of it with `linear-eval convert CHECKPOINT --architecture NAME "
    "--output FILE`"
)
_NUM_NAMED = 3  # how many keys a message lists before it only counts


def save_backbone(path: Path, backbone: nn.Module, info: BackboneInfo) -> None:
    """Write a backbone; `path` appears whole or not at all.

    Raises:
        InputError: `path` cannot be written.
    """
    is_custom = info.architecture.startswith(CUSTOM)
    expected = expected_of(backbone) if is_custom else expected_state(info.architecture)
    tensors = {name: _storable(tensor) for name, tensor in backbone.state_dict().items()}
    problems = _differences(tensors, expected)
    assert not problems, f"not a plain {info.architecture}: {problems}"
    assert is_custom or info.feature_dim == feature_dim(info.architecture), info
    # one metadata key only: safetensors writes several in no fixed order, and the digest would vary
    from safetensors.torch import save  # it loads torch

    data = save(tensors, metadata={_HEADER_KEY: write_header(info, tensors_sha256(tensors))})
    with atomic_file(path) as file:
        file.write(data)


def load_backbone(path: Path, module: nn.Module | None = None) -> tuple[nn.Module, BackboneInfo]:
    """Read a backbone on the CPU: in eval mode, frozen, every key and shape checked.

    Args:
        path: a backbone file.
        module: takes the tensors, as a copy; needed for a module of somebody's own code.

    Raises:
        InputError: no such file, not a backbone file, damaged, or tensors of another architecture.
    """
    tensors, header = _read(path)
    info = header.info
    if module is None and info.architecture.startswith(CUSTOM):
        name = info.architecture.removeprefix(CUSTOM)
        raise InputError(
            f"{path}: holds '{info.architecture}', a module of somebody's own code, expected an "
            "architecture that is built by name; judge it from Python: linear_eval.evaluate("
            f"linear_eval.load(FILE, module={name}(...)), ...)"
        )
    expected = expected_state(info.architecture) if module is None else expected_of(module)
    if problems := _differences(tensors, expected):
        remedy = "export the backbone again" if module is None else "give the module it was made of"
        raise InputError(
            f"{path}: its tensors are not those of "
            + (f"'{info.architecture}', which its header names" if module is None else "the module")
            + f" ({problems}); {remedy}"
        )
    # files of early versions have none
    if header.tensors_sha256 not in (None, tensors_sha256(tensors)):
        raise InputError(
            f"{path}: is damaged, its tensors are not those that were written; copy or export it "
            "again"
        )
    if module is None:
        backbone = assemble_backbone(info.architecture, tensors)
    else:
        backbone = filled(module, tensors)
    check_forward(path, backbone, info)
    return backbone, info


def backbone_notes(path: Path) -> list[str]:
    """What cannot be known about a sound backbone file, a line each: for the user."""
    with safe_open(path, framework="pt") as file:
        note = unsealed_note(_parse_header(path, file.metadata()))
    return [] if note is None else [f"{path}: {note}"]


def assemble_backbone(architecture: str, tensors: dict[str, Tensor]) -> nn.Module:
    """A backbone on the CPU with these tensors, in eval mode and frozen.

    Args:
        architecture: a name in `backbones.ARCHITECTURES`, or `timm:NAME`.
        tensors: under our names, checked to be all that the architecture has.
    """
    backbone = backbone_to_fill(architecture)
    backbone.load_state_dict(tensors, strict=True)
    return backbone.eval().requires_grad_(False)


def is_backbone_file(path: Path) -> bool:
    """Whether the file's header says that it is one; whether it is whole, `load_backbone` finds."""
    try:
        with safe_open(path, framework="pt") as file:
            return _HEADER_KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def _storable(tensor: Tensor) -> Tensor:
    # channels_last weights and views are no plain rows of numbers; safetensors takes only those
    return tensor.detach().cpu().contiguous().clone()


def _read(path: Path) -> tuple[dict[str, Tensor], Header]:
    try:
        require_backbone(path)
        with safe_open(path, framework="pt") as file:
            header = _parse_header(path, file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path}: {_diagnose(path)}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    return tensors, header


def _diagnose(path: Path) -> str:
    # only after safetensors refused: a sound file may begin with the same bytes as a pickle
    with path.open("rb") as file:
        start = file.read(9)
    if start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"):
        return f"holds a pickle, which can run code, expected tensors (safetensors); {_CONVERT}"
    if start[8:9] == b"{":
        return "is truncated or damaged, expected a whole backbone file; copy or export it again"
    return "is no safetensors file, expected a backbone file; export one with `ssl-bf export`"


def _parse_header(path: Path, metadata: dict[str, str] | None) -> Header:
    text = (metadata or {}).get(_HEADER_KEY)
    if text is None:
        raise InputError(
            f"{path}: its header does not say which backbone it holds, expected the metadata key "
            f"'{_HEADER_KEY}'; {_CONVERT}"
        )
    try:
        return read_header(text)
    except ChangedHeader as error:
        raise InputError(
            f"{path}: is damaged, its header (image size, mean, std, seed and so on) is not the "
            "one that was written; copy or export it again"
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: its header cannot be understood ({error}); export the backbone again"
        ) from error


def _differences(tensors: dict[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """What is missing, unexpected or another shape or type; "" when the tensors fit."""
    shared = sorted(expected.keys() & tensors.keys())
    problems = {
        "missing": sorted(expected.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - expected.keys()),
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in shared
            if tensors[name].shape != expected[name].shape
        ],
        # the digest is over bytes: these would be other numbers as another type
        "of another type": [
            f"{name} {tensors[name].dtype} instead of {expected[name].dtype}"
            for name in shared
            if tensors[name].dtype != expected[name].dtype
        ],
    }
    return "; ".join(
        f"{len(names)} {kind}: {', '.join(names[:_NUM_NAMED])}{', ...' * (len(names) > _NUM_NAMED)}"
        for kind, names in problems.items()
        if names
    )


def check_forward(name: object, backbone: nn.Module, info: BackboneInfo) -> None:
    """See that one black image gives a row of finite features; `name` is for the message.

    Raises:
        InputError: it does not.
    """
    with torch.inference_mode():
        features = backbone(torch.zeros(1, 3, info.image_size, info.image_size))
    if features.shape != (1, info.feature_dim):
        raise InputError(
            f"{name}: its features are {tuple(features.shape)}, expected (1, {info.feature_dim}) "
            "as its header says; give the module it was made of"
        )
    if not bool(features.isfinite().all()):
        raise InputError(
            f"{name}: a black image gives features that are NaN or infinite; the weights are "
            "broken, export a backbone of a run that converged"
        )
