"""What is trained, by learning-rate rule."""

from collections.abc import Iterable, Sequence

from torch import nn

from ssl_bf.optimizers import ParameterGroup
from ssl_bf.relations.relation import Relation


def trained_groups(
    method: nn.Module, constant: Sequence[nn.Module], relation: Relation
) -> list[ParameterGroup]:
    """Trainable parameters of a method, each exactly once.

    Args:
        method: owns the others.
        constant: modules whose learning rate stays at its peak.
        relation: has a scale of its own; its gate has no weight decay.
    """
    groups = [ParameterGroup("network", _trainable(method, exclude=[*constant, relation]))]
    for module in constant:
        named = _trainable(method, only=module)
        groups.append(ParameterGroup("constant", named, schedule="constant"))
    related, gate = _trainable(method, only=relation), relation.gate()
    for name, is_gate in (("relation", False), ("gate", True)):
        named = [(each, p) for each, p in related if (p is gate) == is_gate]
        if named:
            groups.append(ParameterGroup(name, named, relation.lr_scale, decays=not is_gate))
    return groups


def _trainable(
    owner: nn.Module, *, only: nn.Module | None = None, exclude: Iterable[nn.Module] = ()
) -> list[tuple[str, nn.Parameter]]:
    """Named trainable parameters of `owner`, chosen by module identity, never by name."""
    chosen = {id(p) for p in (owner if only is None else only).parameters()}
    excluded = {id(p) for module in exclude for p in module.parameters()}
    return [
        (name, p)
        for name, p in owner.named_parameters()
        if p.requires_grad and id(p) in chosen - excluded
    ]
