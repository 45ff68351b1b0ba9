"""Tests of ssl_bf.ranks.shards_of_run."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from linear_eval.strict_config.reader import parse_config
from linear_eval.system.errors import InputError
from ssl_bf.config import PretrainConfig
from ssl_bf.ranks import shards_of_run
from ssl_bf.ranks.shards_of_run import check_shards, saved_shards, shards_note, shards_of
from ssl_bf.shards import turns
from ssl_bf.shards.turns import HeldShards
from tests.tiny_run import TINY


def config(*overrides: str) -> PretrainConfig:
    return parse_config(PretrainConfig, copy.deepcopy(TINY), overrides).value


@pytest.fixture(params=[1, 2])
def processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    for module in (shards_of_run, turns):
        monkeypatch.setattr(module, "world_size", lambda: request.param)
    return int(request.param)


def test_auto_is_a_shard_per_process_at_the_start_and_stays_so(processes: int) -> None:
    assert shards_of(config()).count == processes
    begun: dict[str, Any] = {"world_size": 1, "shards": 4}
    assert shards_of(config(), begun).count == 4
    assert shards_of(config(), begun).held == 4 // processes
    assert shards_of(config("shards=8"), None).count == 8
    assert saved_shards({"world_size": 3}) == 3  # of an earlier version


def test_processes_that_cannot_share_them_are_refused(processes: int) -> None:
    if processes == 2:
        with pytest.raises(InputError, match="^shards: 1 cannot .*--nproc-per-node 1$"):
            shards_of(config(), {"world_size": 1})
        with pytest.raises(InputError, match="^shards: 9 .* 1 or 3 or 9, or set shards to a mul"):
            shards_of(config("shards=9"))
    with pytest.raises(InputError, match="^batch_size: 16 is not divisible by 6 shards"):
        shards_of(config("shards=6"))


@pytest.mark.parametrize("key", ["compile", "cuda_graph"])
def test_what_needs_a_shard_per_process_is_refused(key: str) -> None:
    asked = config(f"speed.{key}=true")
    check_shards(asked, HeldShards(1))
    for wrong, count in ((asked, 2), (config(f"speed.{key}=true", "speed.reduction=ordered"), 1)):
        with pytest.raises(InputError, match=f"^speed.{key}: needs one shard .*{key}=false$"):
            check_shards(wrong, HeldShards(count))
    check_shards(config(), HeldShards(2))


def test_a_step_that_cannot_be_captured_is_refused(processes: int) -> None:
    asked = "run.capture_step=2"
    check_shards(config(asked, "speed.reduction=ordered"), HeldShards(4))
    with pytest.raises(InputError, match=r"^run.capture_step: .*cuda_graph=false"):
        check_shards(config(asked, "speed.cuda_graph=true"), HeldShards(processes))


def test_a_line_says_what_stays_the_same(processes: int) -> None:
    assert shards_note(config(), HeldShards(processes)) == []
    [fast] = shards_note(config(), HeldShards(4), {"world_size": 4})
    assert "4 process(es) before: the loss stays, up to rounding," in fast
    [ordered] = shards_note(config("speed.reduction=ordered"), HeldShards(processes))
    assert "every bit stays the same" in ordered
