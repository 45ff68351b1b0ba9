"""Tests of ssl_bf.study.record: a study that was begun before a key existed."""

from pathlib import Path
from typing import Any

import pytest

from linear_eval.system.errors import InputError
from ssl_bf.study.record import Record, _refuse_changes


def arm(**backbone: Any) -> dict[str, Any]:
    return {"arms": {"none": {"backbone": {"name": "small_conv", **backbone}}}}


def check(then: dict[str, Any], now: dict[str, Any]) -> None:
    record = Record(study=then, seeds=(0,), stated={})
    _refuse_changes(record, now, (0, 1), {}, Path("study"))


@pytest.mark.parametrize(("then", "now"), [({}, 0), ({"frozen_stages": 2}, 2)])
def test_a_study_from_before_a_key_goes_on_with_what_it_meant(
    then: dict[str, Any], now: int
) -> None:
    check(arm(**then), arm(frozen_stages=now))


@pytest.mark.parametrize("then", [{}, {"frozen_stages": 0}])
def test_another_value_of_a_key_is_refused_even_if_it_came_later(then: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"arms\.none\.backbone\.frozen_stages.*now 2"):
        check(arm(**then), arm(frozen_stages=2))


def test_a_new_arm_may_have_any_value() -> None:
    now = arm()
    now["arms"]["other"] = {"backbone": {"name": "small_conv", "frozen_stages": 2}}
    check(arm(), now)
