"""LARS against three recorded steps of MoCo-v3's optimizer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from ssl_bf.optimizers import LarsConfig, ParameterGroup, build_optimizer, set_learning_rates
from ssl_bf.schedules import Plan


def test_three_steps_equal_the_recorded_ones(
    parity_file: Callable[[str], dict[str, np.ndarray]], assert_agrees: Callable[..., None]
) -> None:
    recorded = parity_file("lars")
    weight = nn.Parameter(torch.from_numpy(recorded["steps/w0"].copy()))
    bias = nn.Parameter(torch.from_numpy(recorded["steps/b0"].copy()))
    config = LarsConfig(
        momentum=float(recorded["momentum"]),
        weight_decay=float(recorded["weight_decay"]),
        trust_coefficient=float(recorded["trust_coefficient"]),
    )
    group = ParameterGroup(name="all", parameters=[("weight", weight), ("bias", bias)])
    optimizer = build_optimizer(config, [group])
    rate = float(recorded["lr"])
    plan = Plan(steps_per_epoch=10, epochs=1, warmup_epochs=0, peak_learning_rate=rate)
    set_learning_rates(optimizer, plan, 0)

    for step in (1, 2, 3):
        weight.grad = torch.from_numpy(recorded[f"steps/gw{step}"].copy())
        bias.grad = torch.from_numpy(recorded[f"steps/gb{step}"].copy())
        optimizer.step()
        assert_agrees(weight, recorded[f"steps/w{step}"], f"weight after step {step}")
        assert_agrees(bias, recorded[f"steps/b{step}"], f"bias after step {step}")
    assert np.abs(recorded["steps/w3"] - recorded["steps/w0"]).max() > 1e-5, "nothing moved"


@pytest.mark.parametrize("ours", [1.0 + 2.1e-10, float("nan"), [1.0, 1.0]])
def test_a_deviation_is_not_called_agreement(
    ours: object, assert_agrees: Callable[..., None]
) -> None:
    assert_agrees([1.0, -2.0], [1.0 + 1e-10, -2.0], "inside the tolerance")
    with pytest.raises(AssertionError, match="query"):
        assert_agrees(ours, 1.0, "query")
