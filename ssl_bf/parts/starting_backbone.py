"""The trained backbone before the first step."""

from torch import nn

from linear_eval.backbones.configs import BackboneConfig
from linear_eval.backbones.opened import open_backbone
from linear_eval.system.errors import InputError
from ssl_bf.parts.frozen_stages import freeze_stages
from ssl_bf.parts.initial_values import initial_values


def starting_backbone(config: BackboneConfig, seed: int) -> nn.Module:
    """Make it; its values are a function of the seed, or those of `backbone.init`.

    Raises:
        InputError: that file cannot be read, or holds another architecture; or
            `backbone.frozen_stages` leaves nothing to train.
    """
    with initial_values(seed, "backbone"):
        backbone = config.build()
    if config.init is not None:
        given = open_backbone(config.init)
        if given.info.architecture != config.architecture:
            raise InputError(
                f"backbone.init: {config.init} holds a {given.info.architecture}, the run "
                f"trains a {config.architecture}; set backbone.name and backbone.stem "
                "(backbone.model of timm's) to match"
            )
        backbone.load_state_dict(given.network.state_dict())
    freeze_stages(backbone, config.frozen_stages)
    return backbone
