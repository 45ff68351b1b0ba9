"""Tests of ssl_bf.schedules: its ends, and a loop written as published training loops run."""

from __future__ import annotations

import math

import pytest
import torch

from linear_eval.system.errors import InputError
from ssl_bf.schedules import Elapsed, Momentum, Plan


def plan(**changes: object) -> Plan:
    settings: dict[str, object] = {
        "steps_per_epoch": 7,
        "epochs": 12,
        "warmup_epochs": 3,
        "peak_learning_rate": 0.6,
    }
    return Plan(**(settings | changes))  # type: ignore[arg-type]  # a dict of mixed values


@pytest.mark.parametrize(("epochs", "warmup", "steps"), [(12, 3, 7), (5, 0, 11), (100, 10, 3)])
def test_every_step_equals_a_loop_over_epochs_and_batches(
    epochs: int, warmup: int, steps: int
) -> None:
    subject = plan(steps_per_epoch=steps, epochs=epochs, warmup_epochs=warmup)
    step = 0
    for epoch in range(epochs):
        for batch in range(steps):
            now = epoch + batch / steps
            if now < warmup:
                expected = 0.6 * now / warmup
            else:
                angle = math.pi * (now - warmup) / (epochs - warmup)
                expected = 0.6 * (math.cos(angle) + 1) / 2
            assert subject.learning_rate(step) == pytest.approx(expected, rel=1e-12, abs=1e-15)
            assert subject.progress(step).epoch == pytest.approx(now, rel=1e-12)
            assert subject.progress(step).epochs == epochs
            step += 1
    assert step == subject.total_steps


def test_warm_up_starts_at_zero_and_reaches_the_peak_exactly() -> None:
    subject = plan()
    assert subject.learning_rate(0) == 0.0
    assert subject.learning_rate(1) == pytest.approx(0.6 / 21)
    assert subject.learning_rate(21) == 0.6
    assert max(subject.learning_rate(step) for step in range(84)) == 0.6


def test_cosine_halves_the_peak_in_the_middle_and_ends_above_zero() -> None:
    subject = plan(epochs=10, warmup_epochs=0, steps_per_epoch=4)
    assert subject.learning_rate(0) == 0.6
    assert subject.learning_rate(20) == pytest.approx(0.3)
    last = subject.learning_rate(subject.total_steps - 1)
    assert last == pytest.approx(0.3 * (1 - math.cos(math.pi / 40)))
    assert last > 0.0
    assert subject.learning_rate(subject.total_steps) == 0.0


def test_fractional_warm_up_is_kept() -> None:
    subject = plan(warmup_epochs=0.5, steps_per_epoch=4)
    assert subject.learning_rate(1) == pytest.approx(0.3)
    assert subject.learning_rate(2) == 0.6


@pytest.mark.parametrize(("epochs", "steps"), [(12, 7), (5, 11), (300, 3)])
def test_momentum_is_that_of_the_published_formula(epochs: int, steps: int) -> None:
    subject = plan(epochs=epochs, steps_per_epoch=steps)
    for step in range(subject.total_steps + 1):
        # facebookresearch/moco-v3 c349e6e, main_moco.py, adjust_moco_momentum
        epoch = step / steps
        cosine = 1.0 + math.cos(math.pi * epoch / epochs)
        found = Momentum(0.99, "cosine").at(subject.progress(step))
        assert isinstance(found, float)
        assert found == 1.0 - (1.0 - 0.99) * 0.5 * cosine
        assert abs(found - (1.0 - 0.5 * cosine * (1.0 - 0.99))) <= math.ulp(1.0)  # as written there


def test_momentum_starts_at_its_start_and_ends_at_one() -> None:
    subject, momentum = plan(), Momentum(0.9, "cosine")
    values = [float(momentum.at(subject.progress(step))) for step in range(85)]
    assert values[0] == pytest.approx(0.9, rel=1e-15)
    assert values[-1] == 1.0
    assert values == sorted(values)


def test_constant_momentum_never_moves() -> None:
    subject = plan()
    assert {Momentum(0.9).at(subject.progress(step)) for step in range(85)} == {0.9}


def test_progress_on_a_device_gives_the_momentum_there() -> None:
    momentum, subject = Momentum(0.9, "cosine"), plan()
    for step in range(subject.total_steps + 1):
        now = subject.progress(step)
        there = momentum.at(Elapsed(torch.tensor(now.epoch, dtype=torch.float64), now.epochs))
        assert isinstance(there, torch.Tensor)
        assert there.item() == pytest.approx(float(momentum.at(now)), rel=1e-15)


@pytest.mark.parametrize("warmup", [12, 40, -1])
def test_warm_up_that_does_not_fit_names_the_key_and_the_numbers(warmup: int) -> None:
    with pytest.raises(InputError, match=rf"optimizer.warmup_epochs: is {warmup}, .* 12 epochs"):
        plan(warmup_epochs=warmup)
