"""Learning rates that fall from layer to layer towards the input of a backbone.

Source: Clark et al. 2020 (ELECTRA, arXiv 2003.10555), as image backbones are fine-tuned since Bao
et al. 2021 (BEiT, arXiv 2106.08254).
"""

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from linear_eval.backbones.stages import parameters_by_stage
from ssl_bf.optimizers import ParameterGroup


def by_layer(
    groups: Sequence[ParameterGroup], backbone: nn.Module, prefix: str, decay: float
) -> list[ParameterGroup]:
    """Cut groups where they hold parameters of the backbone.

    Args:
        groups: of all that is trained.
        backbone: cut as `linear_eval.backbones.stages` does it.
        prefix: of its parameters' names in `groups`.
        decay: the last stage has this share of the group's rate, the one before it `decay` of that,
            and so on; in (0, 1].

    Returns:
        The groups without those parameters, and "NAME of stage I", from 1, for each stage.

    Raises:
        InputError: the backbone has no stages.
    """
    by_stage = parameters_by_stage(backbone)
    stage_of = {prefix + name: i for i, names in enumerate(by_stage) for name in names}
    cut = []
    for group in groups:
        rest = [(name, p) for name, p in group.parameters if name not in stage_of]
        if rest:
            cut.append(replace(group, parameters=rest))
        for stage in range(len(by_stage)):
            own = [(name, p) for name, p in group.parameters if stage_of.get(name) == stage]
            scale = group.learning_rate_scale * decay ** (len(by_stage) - stage)
            name = f"{group.name} of stage {stage + 1}"
            if own:
                cut.append(replace(group, name=name, parameters=own, learning_rate_scale=scale))
    return cut
