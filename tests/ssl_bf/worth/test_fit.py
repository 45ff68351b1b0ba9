"""What fits into how much time. Run: pytest tests/ssl_bf/worth."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linear_eval.system.errors import InputError
from ssl_bf.scan.scan import Scan
from ssl_bf.worth import fit
from ssl_bf.worth.fit import Pace, budgets_of, fitting, least_seconds
from ssl_bf.worth.recipes import CANDIDATES, Candidate, Setting

SETTING = Setting(
    root="",
    backbone={"name": "small_conv"},
    size=32,
    precision="float32",
    threads=1,
    batch_size=128,
)
SCAN = Scan(
    images=4000,
    unreadable=0,
    sides=(96, 96, 96),
    classes={f"{number}": 400 for number in range(10)},
    exact_copies=0,
    near_copies=0,
    leaked=0,
    parts={"train": 2600, "holdout": 600, "test": 800},
    notes=(),
)
PACE = Pace(step=0.2, start=6.0)


def planned(seconds: float, pace: Pace = PACE, **others: Any) -> Any:
    return fitting(SETTING, SCAN, pace, seconds=seconds, jobs=others.pop("jobs", 1), **others)


def test_half_an_hour_tries_all_and_has_seeds() -> None:
    plan = planned(1800)
    assert len(plan.candidates) == plan.rungs[0].kept == len(CANDIDATES)
    assert plan.seeds >= 2
    assert plan.budgets == (1, 2, 5, 10, 20, 50, 100)


def test_little_time_tries_one_and_too_little_is_refused() -> None:
    assert [each.name for each in planned(200).candidates] == ["moco_v2"]
    assert planned(20) is None
    assert planned(least_seconds(PACE, 20) * 1.001) is not None


@given(seconds=st.floats(100, 20_000), step=st.floats(0.01, 2), jobs=st.integers(1, 4))
def test_the_training_of_a_plan_takes_no_longer_than_its_shares(
    seconds: float, step: float, jobs: int
) -> None:
    pace = Pace(step=step, start=5.0)
    plan = planned(seconds, pace, jobs=jobs)
    if plan is None:
        return
    steps = SCAN.parts["train"] // SETTING.batch_size
    runs = [rung.epochs for rung in plan.rungs for _ in range(rung.kept)]
    runs += [plan.epochs * share for share in (1, 0.5) for _ in range(plan.seeds)]
    assert sum(pace.start + each * steps * step for each in runs) <= 0.71 * seconds * jobs
    assert all(each.epochs <= plan.epochs for each in plan.rungs)


def test_a_start_that_is_too_slow_is_left_out() -> None:
    start = Candidate(method="moco_v2", init="big.safetensors", slower=2.0)
    assert planned(3000, starts=[start]).candidates[0] is start
    slow = replace(start, slower=1e4)
    assert slow not in planned(3000, starts=[slow]).candidates


def test_labels_are_counted_as_half_of_the_classes_have_them() -> None:
    rare = replace(SCAN, classes={"a": 10, "b": 20, "c": 4000})
    assert budgets_of(rare, 1800.0) == (1, 2, 5)
    assert budgets_of(rare, 180.0) == (1, 5)
    assert budgets_of(replace(SCAN, classes={}), 1800.0) == ()


def test_a_larger_network_or_image_is_taken_where_there_is_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    paces = {32: 0.05, 64: 0.2}
    monkeypatch.setattr(
        fit, "_measured", lambda setting, *_: Pace(step=paces[setting.size], start=6.0)
    )
    monkeypatch.setattr(fit, "_seconds_to_start", lambda: 6.0)

    def size(minutes: float) -> int:
        deadline = time.monotonic() + 60 * minutes
        plan = fit.make_plan(SCAN, tmp_path, minutes=minutes, deadline=deadline, jobs=1)
        return plan.setting.size

    assert (size(5), size(60)) == (32, 64)
    with pytest.raises(InputError, match=r"--minutes: of 0.1 0.1 are left now.* 1 would fit"):
        size(0.1)
