"""What the header of a backbone file says, sealed: a digest tells whether it is what was written.

The header is one JSON object. `tensors_sha256` is over the tensors, `header_sha256` over everything
else in the header, that digest included: so a changed digit of `std`, or of the seed by which runs
are paired, is refused as a changed weight is. Files of earlier versions have one of them, or none.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import yaml

from linear_eval.backbones.architectures import CUSTOM, feature_dim
from linear_eval.strict_config.source import parse_yaml

FORMAT_VERSION = 1
MAX_IMAGE_SIZE = 4096
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # what most published weights were trained with
IMAGENET_STD = (0.229, 0.224, 0.225)
_OF_TENSORS, _OF_HEADER = "tensors_sha256", "header_sha256"


class ChangedHeader(ValueError):  # noqa: N818 - named for what is wrong
    """The header is not the one that was written."""


@dataclass(frozen=True)
class BackboneInfo:
    """What the header says: enough to build the backbone and to feed it.

    Attributes:
        architecture: a name in `backbones.ARCHITECTURES`, `timm:NAME`, or `custom:CLASS` (see
            `own_module`).
        feature_dim: D.
        image_size: side of the training views in pixels.
        mean: per channel, of images in [0, 1].
        std: per channel, > 0.
        provenance: JSON; has a `title` such as "pretrained with BatchFormer", and perhaps `seed`.
        format_version: of this header.
    """

    architecture: str
    feature_dim: int
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    provenance: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @property
    def pretraining_seed(self) -> int | None:
        """`seed` of the provenance; None where it does not say."""
        seed = self.provenance.get("seed")
        return seed if type(seed) is int else None

    @property
    def pretraining_data(self) -> dict[str, Any]:
        """Section `data` of the config in the provenance; empty where there is none."""
        try:
            config = parse_yaml(str(self.provenance.get("config")))
        except yaml.YAMLError:
            return {}
        data = config.get("data") if isinstance(config, dict) else None
        return data if isinstance(data, dict) else {}


@dataclass(frozen=True)
class Header:
    """A header that was read.

    Attributes:
        info: what it says.
        tensors_sha256: what it says of the tensors; None in files of early versions.
        is_sealed: whether it has a digest of its own, which was found to be right.
    """

    info: BackboneInfo
    tensors_sha256: str | None
    is_sealed: bool


def write_header(info: BackboneInfo, tensors_sha256: str) -> str:
    """The header as text, with both digests."""
    header = asdict(info) | {_OF_TENSORS: tensors_sha256}
    return json.dumps(header | {_OF_HEADER: _digest(json.loads(json.dumps(header)))})


def read_header(text: str) -> Header:
    """Read and check what `write_header` wrote, now or in an earlier version.

    Raises:
        ChangedHeader: it was changed since.
        ValueError: it is no header of this version, or says what cannot be.
        TypeError, KeyError: likewise.
    """
    header = json.loads(text)
    if not isinstance(header, dict):
        raise ValueError("the metadata is no JSON object")
    version = header.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(f"format version {version}, expected {FORMAT_VERSION}")
    said = header.pop(_OF_HEADER, None)
    if said is not None and said != _digest(header):
        raise ChangedHeader
    tensors_sha256 = header.pop(_OF_TENSORS, None)
    known = {entry.name for entry in fields(BackboneInfo)}
    if missing := known - header.keys():
        raise ValueError(f"missing {', '.join(sorted(missing))}")
    if unknown := header.keys() - known:  # or a damaged name would pass for an absent digest
        raise ValueError(f"unknown {', '.join(sorted(unknown))}")
    return Header(_info(header), tensors_sha256, is_sealed=said is not None)


def unsealed_note(header: Header) -> str | None:
    """What cannot be known about a file of an earlier version, in one line; None if all can."""
    if header.is_sealed:
        return None
    lacks = "header" if header.tensors_sha256 is not None else "header and tensors"
    weights = "" if header.tensors_sha256 is not None else "and weights "
    return (
        f"written by an earlier version, without a digest of its {lacks}: whether image size, "
        f"mean, std, seed {weights}are what was written cannot be known; export or convert it "
        "again for a file that is checked"
    )


def _digest(header: dict[str, Any]) -> str:
    """SHA-256 of the values, however the text sets them, in hex."""
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _info(header: dict[str, Any]) -> BackboneInfo:
    info = BackboneInfo(
        architecture=str(header["architecture"]),
        feature_dim=int(header["feature_dim"]),
        image_size=int(header["image_size"]),
        mean=_three_numbers(header["mean"], "mean"),
        std=_three_numbers(header["std"], "std"),
        provenance=dict(header["provenance"]),
    )
    is_custom = info.architecture.startswith(CUSTOM)  # only its module knows
    if info.feature_dim < 1 or (
        not is_custom and info.feature_dim != feature_dim(info.architecture)
    ):
        raise ValueError(f"feature_dim {info.feature_dim} does not belong to {info.architecture}")
    if not 1 <= info.image_size <= MAX_IMAGE_SIZE:
        raise ValueError(f"image_size {info.image_size} is not between 1 and {MAX_IMAGE_SIZE}")
    if min(info.std) <= 0:
        raise ValueError(f"std {info.std} is not above 0")
    return info


def _three_numbers(value: Any, name: str) -> tuple[float, float, float]:
    numbers = tuple(float(number) for number in value)
    if len(numbers) != 3:
        raise ValueError(f"{name} has {len(numbers)} numbers, expected 3")
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"{name} {numbers} is not finite")
    return numbers[0], numbers[1], numbers[2]
