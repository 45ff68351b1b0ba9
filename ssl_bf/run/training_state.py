"""The tensors of a run in progress, by name: what a checkpoint stores, and putting them back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from linear_eval.system.errors import InputError
from ssl_bf.optimizers import state_keys


def training_tensors(method: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything a step changes, without copying.

    Returns:
        `method/NAME` for each entry of the method's `state_dict`, and `optimizer/PARAMETER/KEY` for
        each tensor the optimizer keeps; a parameter that has not stepped has none.
    """
    tensors = {f"method/{name}": value for name, value in method.state_dict().items()}
    for name, parameter in _named_parameters(optimizer):
        for key, value in optimizer.state.get(parameter, {}).items():
            assert isinstance(value, Tensor), f"{key} of {name} is a {type(value).__name__}"
            tensors[f"optimizer/{name}/{key}"] = value
    return tensors


def restore(
    method: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    """Put back what `training_tensors` gave, bit for bit, keeping devices and memory formats.

    Learning rates are not stored: they follow from the step.

    Raises:
        InputError: names, shapes or types do not fit; then nothing has been changed.
    """
    own = method.state_dict()
    given = {name: value for name, value in tensors.items() if name.startswith("method/")}
    kept = {name: value for name, value in tensors.items() if name not in given}
    expected = {f"method/{name}": value for name, value in own.items()}
    expected |= _expected_states(optimizer, kept)
    _check_fit(expected, tensors)

    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[f"method/{name}"])
    for name, parameter in _named_parameters(optimizer):
        prefix = f"optimizer/{name}/"
        optimizer.state.pop(parameter, None)
        found = {
            key: expected[prefix + key].copy_(kept[prefix + key])
            for key in state_keys(optimizer)
            if prefix + key in kept
        }
        if found:  # before the first step there is none
            optimizer.state[parameter] = found


def _named_parameters(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, nn.Parameter]]:
    for group in optimizer.param_groups:
        yield from zip(group["param_names"], group["params"], strict=True)


def _expected_states(optimizer: torch.optim.Optimizer, given: Iterable[str]) -> dict[str, Tensor]:
    """Fresh tensors for the state of each parameter that `given` names at least one tensor of."""
    stepped = {name.rpartition("/")[0] for name in given}
    expected = {}
    for name, parameter in _named_parameters(optimizer):
        if f"optimizer/{name}" in stepped:
            for key in state_keys(optimizer):
                fresh = torch.empty_like(parameter.detach())
                if key == "step":  # fused AdamW counts in float32, beside the parameter
                    fresh = torch.zeros((), device=parameter.device)
                expected[f"optimizer/{name}/{key}"] = fresh
    return expected


def _check_fit(expected: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    complaints = []
    for what, names in (
        ("missing", [name for name in expected if name not in given]),
        ("not part of this run", [name for name in given if name not in expected]),
    ):
        if names:
            complaints.append(f"{what}: {_first_few(names)}")
    unequal = [
        f"{name} is {_describe(value)} instead of {_describe(expected[name])}"
        for name, value in given.items()
        if name in expected and _describe(value) != _describe(expected[name])
    ]
    if unequal:
        complaints.append(_first_few(unequal))
    if complaints:
        raise InputError(
            f"checkpoint: does not fit this run ({'; '.join(complaints)}), expected the "
            "architecture, method, relation and optimizer that wrote it; resume with the config "
            "of that run, or start a new one"
        )


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _first_few(names: list[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
