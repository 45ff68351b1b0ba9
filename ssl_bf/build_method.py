"""The method of a run with its backbone, at the initial values of the seed."""

from __future__ import annotations

from torch import nn

from linear_eval.backbones.opened import open_backbone
from linear_eval.system.errors import InputError
from ssl_bf.config import PretrainConfig
from ssl_bf.methods.method import Method, MethodSettings, Start
from ssl_bf.parts.initial_values import initial_values


def build_method(config: PretrainConfig, classes: int) -> Method:
    """Make the method; `classes` is the number of those of the images, 0 without labels."""
    settings: MethodSettings = config.method
    backbone, width = _build_backbone(config), config.backbone.width
    return settings.build(Start(backbone, width, config.relation, config.seed, classes))


def _build_backbone(config: PretrainConfig) -> nn.Module:
    architecture = config.backbone.architecture
    with initial_values(config.seed, "backbone"):
        backbone = config.backbone.build()
    if config.backbone.init is not None:
        given = open_backbone(config.backbone.init)
        if given.info.architecture != architecture:
            raise InputError(
                f"backbone.init: {config.backbone.init} holds a {given.info.architecture}, the run "
                f"trains a {architecture}; set backbone.name and backbone.stem (backbone.model of "
                "timm's) to match"
            )
        backbone.load_state_dict(given.network.state_dict())
    return backbone
