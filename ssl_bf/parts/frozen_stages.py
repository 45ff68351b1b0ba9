"""The first stages of a backbone stay as they are given."""

from torch import nn

from linear_eval.backbones.stages import parameters_by_stage
from linear_eval.system.errors import InputError
from ssl_bf.layers.batch_norm import freeze_batch_norm


def freeze_stages(backbone: nn.Module, count: int) -> None:
    """Freeze the first `count` stages in place: no gradient, running statistics in training too.

    Backward ends where they do, which saves their share of it, and its activations.

    Args:
        backbone: cut as `linear_eval.backbones.stages.parameters_by_stage` does it.
        count: 0 leaves everything trained.

    Raises:
        InputError: the backbone has no stages, or nothing would be left to train.
    """
    if count == 0:
        return
    by_stage = parameters_by_stage(backbone)
    if count >= len(by_stage):
        raise InputError(
            f"backbone.frozen_stages: {count} of the {len(by_stage)} stages of this backbone, "
            "expected fewer; lower it, or judge the backbone as it is with `linear-eval run`"
        )
    frozen = {name for names in by_stage[:count] for name in names}
    for name in frozen:
        backbone.get_parameter(name).requires_grad_(False)
    freeze_batch_norm(backbone, frozen)
