"""Backbones that are built by name: the section `backbone:` of a training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, NoReturn

from linear_eval.backbones.architectures import build_backbone, feature_dim
from linear_eval.backbones.vision_transformers import freeze_patch_projection
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class NamedBackbone:
    """A network of which the name says all."""

    name: str
    frozen_stages: int = 0  # so many from the input on stay as they start, BatchNorm included

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if self.frozen_stages < 0:
            raise ValueError(f"frozen_stages: must be >= 0, got {self.frozen_stages}")

    @property
    def architecture(self) -> str:
        """The name that the backbone file carries."""
        return self.name

    @property
    def width(self) -> int:
        """Of its features."""
        return feature_dim(self.architecture)

    def build(self) -> nn.Module:
        """Make it from torch's global generator (the caller seeds)."""
        return build_backbone(self.architecture)


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(NamedBackbone):
    """A torchvision ResNet without its classifier."""

    name: Literal["resnet18", "resnet34", "resnet50", "resnet101"]
    stem: Literal["imagenet", "cifar"] = "imagenet"  # cifar: 3x3 stride 1, no max-pool
    zero_init_residual: bool = False  # start every residual branch at 0
    init: str | None = None  # a backbone file to start from

    @property
    def architecture(self) -> str:
        """The name that the backbone file carries."""
        return self.name if self.stem == "imagenet" else f"{self.name}_cifar"

    def build(self) -> nn.Module:
        """Make it from torch's global generator (the caller seeds)."""
        return build_backbone(self.architecture, zero_init_residual=self.zero_init_residual)


@dataclass(frozen=True, kw_only=True)
class SmallConvConfig(NamedBackbone):
    """Four convolutions, 98k parameters: for CPUs."""

    name: Literal["small_conv"]
    init: str | None = None  # a backbone file to start from


@dataclass(frozen=True, kw_only=True)
class CifarResNetConfig(NamedBackbone):
    """A ResNet for 32 px with shortcuts that have no weights: 0.27 and 0.46 million parameters."""

    name: Literal["resnet20", "resnet32"]
    init: str | None = None  # a backbone file to start from


@dataclass(frozen=True, kw_only=True)
class VisionTransformerConfig(NamedBackbone):
    """A vision transformer as MoCo-v3 trains them: fixed positions, 12 heads for Small.

    Its feature is the class token; `vit_micro` has under a million parameters.
    """

    name: Literal["vit_micro", "vit_tiny", "vit_small", "vit_base"]
    # the random projection of the patches is never trained: steadier, as published
    freeze_patch_projection: bool = True
    init: str | None = None  # a backbone file to start from

    @property
    def architecture(self) -> str:
        """The name that the backbone file carries."""
        return self.name if self.name == "vit_micro" else f"{self.name}_moco_v3"

    def build(self) -> nn.Module:
        """Make it from torch's global generator (the caller seeds)."""
        network = build_backbone(self.architecture)
        if self.freeze_patch_projection:
            freeze_patch_projection(network)
        return network


@dataclass(frozen=True, kw_only=True)
class TimmConfig(NamedBackbone):
    """Any model of timm without its classifier; its weights start as timm draws them."""

    name: Literal["timm"]
    # in timm's words, perhaps with the tag of pretrained weights: resnet50d.ra2_in1k
    model: str = field(metadata={"expects": "a model of timm such as resnet50d"})
    init: str | None = None  # a backbone file to start from, or timm:NAME for timm's own weights

    @property
    def architecture(self) -> str:
        """The name that the backbone file carries."""
        return f"timm:{self.model}"


@dataclass(frozen=True, kw_only=True)
class GivenBackboneConfig:
    """A module that a Python program handed in; a file can only tell its name."""

    name: Literal["given"]
    architecture: str  # custom:CLASS, the name that the backbone file carries
    frozen_stages: ClassVar[int] = 0  # a program freezes its own module

    @property
    def init(self) -> None:
        """Of no use: the module comes with its weights."""

    @property
    def width(self) -> int:
        """Only a `GivenModule` knows."""
        self._is_elsewhere()

    def build(self) -> nn.Module:
        """Only a `GivenModule` can."""
        self._is_elsewhere()

    def _is_elsewhere(self) -> NoReturn:
        raise InputError(
            f"backbone.name: given, the module '{self.architecture}' of a Python program, expected "
            "one that is built by name; hand it in again from Python, as backbone= of "
            "ssl_bf.pretrain or ssl_bf.resume"
        )


BackboneConfig = (
    ResNetConfig
    | SmallConvConfig
    | CifarResNetConfig
    | VisionTransformerConfig
    | TimmConfig
    | GivenBackboneConfig
)
