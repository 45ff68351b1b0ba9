"""Tests of ssl_bf.parts.weight_average."""

import torch
from torch import nn

from ssl_bf.parts.weight_average import WeightAverage


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def change(module: nn.Module) -> None:
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p))
    module(torch.randn(6, 3))


def test_it_is_the_mean_of_what_counts_and_the_module_itself_before() -> None:
    module = network()
    average = WeightAverage(module)
    iterates = []
    for step in range(7):
        change(module)
        average.move(module, counts=step >= 3)
        state = {name: value.clone() for name, value in module.state_dict().items()}
        if step < 3:
            torch.testing.assert_close(average.average.state_dict(), state, rtol=0, atol=0)
        else:
            iterates.append(state)
    found = average.average.state_dict()
    for name, value in iterates[-1].items():
        if value.is_floating_point():
            value = torch.stack([each[name] for each in iterates]).mean(dim=0)
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    assert average.steps == 4


def test_the_average_has_no_gradient_and_goes_on_from_its_state() -> None:
    module = network()
    average, resumed = WeightAverage(module), WeightAverage(network())
    for _ in range(2):
        change(module)
        average.move(module, counts=True)
    resumed.load_state_dict(average.state_dict())
    change(module)
    for each in (average, resumed):
        each.move(module, counts=True)
        assert not any(p.requires_grad for p in each.parameters())
    torch.testing.assert_close(resumed.state_dict(), average.state_dict(), rtol=0, atol=0)
