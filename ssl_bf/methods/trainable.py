"""Which parameters of a method train, by the modules that own them."""

from collections.abc import Iterable

from torch import nn


def trainable(
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
