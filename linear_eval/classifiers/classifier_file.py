"""The file of a trained classifier: one linear layer, its classes, and which backbone it is for.

A safetensors file (tensors and text, no code) that lies beside the backbone. Its metadata holds one
JSON object under the key `classifier`, sealed by a digest as a backbone's header is.

Shapes: N images, C classes, D feature width.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from linear_eval.backbones.backbone_file import tensors_sha256
from linear_eval.system.atomic_file import atomic_file
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

CLASSIFIER_FILE = "classifier.safetensors"
FORMAT_VERSION = 1
_HEADER_KEY, _DIGEST = "classifier", "sha256"
_WEIGHT, _BIAS = "fc.weight", "fc.bias"


@dataclass(frozen=True)
class ClassifierInfo:
    """What the header says.

    Attributes:
        class_names: C, in the order of the layer's outputs.
        backbone_sha256: over names and bytes of the backbone's tensors.
        unit_features: whether features are scaled to length 1 before the layer.
        format_version: of this header.
    """

    class_names: tuple[str, ...]
    backbone_sha256: str
    unit_features: bool = False
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, eq=False)
class TrainedClassifier:
    """The layer, on the CPU.

    Attributes:
        weight: (C, D) float32.
        bias: (C,) float32.
        info: what the header says.
    """

    weight: Tensor
    bias: Tensor
    info: ClassifierInfo

    def logits(self, features: Tensor) -> Tensor:
        """(N, D) of any floating type -> (N, C) float32."""
        features = features.float()
        if self.info.unit_features:
            features = torch.nn.functional.normalize(features, dim=1)
        return torch.nn.functional.linear(
            features, self.weight.to(features.device), self.bias.to(features.device)
        )


def backbone_digest(backbone: nn.Module) -> str:
    """What `ClassifierInfo.backbone_sha256` says of this backbone, on whatever device it is."""
    state = backbone.state_dict()
    return tensors_sha256({name: value.detach().cpu() for name, value in state.items()})


def save_classifier(path: Path, classifier: TrainedClassifier) -> None:
    """Write a classifier; `path` appears whole or not at all.

    Raises:
        InputError: `path` cannot be written.
    """
    from safetensors.torch import save  # it loads torch

    tensors = {
        _WEIGHT: classifier.weight.detach().cpu().float().contiguous().clone(),
        _BIAS: classifier.bias.detach().cpu().float().contiguous().clone(),
    }
    assert tensors[_WEIGHT].shape[0] == tensors[_BIAS].shape[0] == len(classifier.info.class_names)
    header = json.loads(json.dumps(asdict(classifier.info)))
    header[_DIGEST] = _seal(header, tensors)
    data = save(tensors, metadata={_HEADER_KEY: json.dumps(header)})
    with atomic_file(path) as file:
        file.write(data)


def load_classifier(path: Path) -> TrainedClassifier:
    """Read a classifier, every part of it checked.

    Raises:
        InputError: there is no such file, it is no classifier file, or is damaged.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such file, expected the {CLASSIFIER_FILE} that a run with labels "
            "(method.name=classifier) writes beside its backbone; give its path"
        )
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_HEADER_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(
            f"{path}: is truncated, damaged or no safetensors file, expected a classifier file; "
            "copy it again"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if text is None:
        raise InputError(
            f"{path}: its header does not say which classifier it holds, expected the metadata "
            f"key '{_HEADER_KEY}'; give the {CLASSIFIER_FILE} of a run with labels"
        )
    try:
        return _checked(json.loads(text), tensors)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: is damaged or of another version ({error}); copy it again, or train again"
        ) from error


def _checked(header: Any, tensors: dict[str, Tensor]) -> TrainedClassifier:
    if not isinstance(header, dict):
        raise TypeError("the metadata is no JSON object")
    if header.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"format version {header.get('format_version')}, not {FORMAT_VERSION}")
    if tensors.keys() != {_WEIGHT, _BIAS}:
        raise ValueError(f"holds {', '.join(sorted(tensors))}, not {_WEIGHT} and {_BIAS}")
    said = header.pop(_DIGEST, None)
    known = {each.name for each in fields(ClassifierInfo)}
    if said != _seal(header, tensors) or header.keys() != known:
        raise ValueError("it is not what was written")
    info = ClassifierInfo(**header | {"class_names": tuple(header["class_names"])})
    if tensors[_WEIGHT].shape[:1] != tensors[_BIAS].shape or tensors[_WEIGHT].ndim != 2:
        raise ValueError("weight and bias do not belong together")
    if len(info.class_names) != len(tensors[_BIAS]):
        raise ValueError(f"{len(info.class_names)} names for {len(tensors[_BIAS])} classes")
    return TrainedClassifier(tensors[_WEIGHT], tensors[_BIAS], info)


def _seal(header: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """SHA-256 (hex) over the header, however its text sets it, and over the tensors."""
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256((tensors_sha256(tensors) + text).encode()).hexdigest()
