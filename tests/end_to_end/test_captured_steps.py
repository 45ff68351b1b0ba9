"""Steps of two processes are captured whole, and made again by one."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from linear_eval.system.distributed import rank
from ssl_bf.captured.run_health import UnhealthyRun
from ssl_bf.captured.step_file import read
from ssl_bf.health.rules import Finding
from ssl_bf.health.watch import HealthWatch
from ssl_bf.keyed_random import StepContext
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.moco_v2 import MoCoV2
from ssl_bf.ranks.sharded_step import ShardedStep
from ssl_bf.run import checkpoint
from ssl_bf.run.log import NonFiniteLoss
from ssl_bf.train import train
from ssl_bf.verify.replay import replay
from tests import tiny_moco
from tests.two_gloo_processes import Result, TwoProcesses

pytestmark = pytest.mark.dist
STEP = "captured/step-000000005.safetensors"
GIVEN = ["speed.threads=1", "run.log_every=5", "run.save_every=9epochs", "epochs=2"]
GIVEN += ["relation.context=local", "optimizer.warmup_epochs=0"]


def trained(directory: str, *overrides: str) -> Result:
    train(tiny_moco.build(*GIVEN, *overrides), Path(directory))
    return {}


def breaking(directory: str, at: int, *overrides: str, slow: float = 0.0) -> Result:
    """The loss of the second process breaks; returns the step at which this one ended.

    And how many checkpoints there are by then, of which each takes `slow` seconds to write.
    """
    sound, save = MoCoV2.forward, checkpoint.save

    def forward(self: MoCoV2, batch: Batch, context: StepContext) -> Tensor:
        loss = sound(self, batch, context)
        return loss * float("nan") if rank() == 1 and context.step == at - 1 else loss

    def slowly(*given: Any, **named: Any) -> None:
        time.sleep(slow)
        save(*given, **named)

    with patch.object(MoCoV2, "forward", forward), patch.object(checkpoint, "save", slowly):
        try:
            train(tiny_moco.build(*GIVEN, *overrides), Path(directory))
        except NonFiniteLoss as error:
            there = len(checkpoint.published_steps(Path(directory)))
            return {"step": torch.tensor(error.step), "checkpoints": torch.tensor(there)}
    return {}


def slowly_breaking(directory: str) -> Result:
    """A checkpoint of step 3 is being written when step 5 breaks."""
    return breaking(directory, 5, "run.save_every=1epoch", slow=2.0)


def with_a_finding(directory: str, by: int, stops: int) -> Result:
    """One process finds a collapse at step 2; returns the step at which this one ended."""
    look = HealthWatch.look

    def found(self: HealthWatch, step: int, values: dict[str, float]) -> list[Finding]:
        here = [Finding("collapse", step, "staged")] if (rank(), step) == (by, 2) else []
        return [*look(self, step, values), *here]

    given = ["run.log_every=2", *(["run.stop_on=[collapse]"] if stops else [])]
    with patch.object(HealthWatch, "look", found):
        try:
            train(tiny_moco.build(*GIVEN, *given), Path(directory))
        except UnhealthyRun as error:
            return {"step": torch.tensor(error.step)}
    return {"step": torch.tensor(tiny_moco.STEPS_PER_EPOCH * 2)}


@pytest.mark.parametrize("shards", [2, 4])
def test_added_in_order_the_step_is_the_same_to_the_bit(
    two_processes: TwoProcesses, shards: int, tmp_path: Path
) -> None:
    ordered = ["run.capture_step=5", f"shards={shards}", "speed.reduction=ordered"]
    two_processes(trained, str(tmp_path), *ordered)
    captured = read(tmp_path / STEP)
    assert (captured.facts.shards, captured.facts.processes) == (shards, 2)
    assert captured.batch.image_ids.tolist() == tiny_moco.build().loader.batch(4).image_ids.tolist()
    assert replay(tmp_path / STEP).is_same


def test_added_fast_it_is_the_same_up_to_rounding(
    two_processes: TwoProcesses, tmp_path: Path
) -> None:
    two_processes(trained, str(tmp_path), "run.capture_step=5")
    done = replay(tmp_path / STEP)
    assert (done.is_close, done.promises_bits) == (True, False)
    assert done.loss == pytest.approx(float.fromhex(done.facts.loss), rel=1e-5)
    with patch.object(ShardedStep, "change", lambda self: None):
        assert not replay(tmp_path / STEP).is_close, "the same loss, and nothing was learned"


@pytest.mark.parametrize("at", [3, 5])
def test_all_processes_end_at_the_step_that_broke_in_one(
    two_processes: TwoProcesses, at: int, tmp_path: Path
) -> None:
    """Step 5 has a line of the log; step 3 is met by it, and made again."""
    ends = [result["step"].item() for result in two_processes(breaking, str(tmp_path), at)]
    assert ends == [at, at]
    [path] = (tmp_path / "captured").iterdir()
    assert path.name == f"step-{at:09d}.safetensors"
    (tmp_path / "asked").mkdir()
    two_processes(trained, str(tmp_path / "asked"), f"run.capture_step={at}")
    asked, found = read(tmp_path / "asked" / "captured" / path.name), read(path)
    assert asked.before.keys() == found.before.keys()
    for name, value in asked.before.items():
        assert torch.equal(value, found.before[name]), name
    assert torch.equal(asked.batch.views[0], found.batch.views[0])


def test_no_process_leaves_before_the_checkpoint_is_written(
    two_processes: TwoProcesses, tmp_path: Path
) -> None:
    """For torchrun would end the one that writes."""
    ends = two_processes(slowly_breaking, str(tmp_path))
    assert [result["checkpoints"].item() for result in ends] == [1, 1]
    said = json.loads((tmp_path / "status.json").read_text())
    assert said["state"] == "failed"
    assert said["reason"].endswith("(checkpoints saved before are untouched)")


@pytest.mark.parametrize("stops", [0, 1])
@pytest.mark.parametrize("by", [0, 1])
def test_what_the_main_process_finds_counts_and_all_end_together(
    two_processes: TwoProcesses, by: int, stops: int, tmp_path: Path
) -> None:
    ends = [
        result["step"].item() for result in two_processes(with_a_finding, str(tmp_path), by, stops)
    ]
    last = tiny_moco.STEPS_PER_EPOCH * 2
    assert ends == ([2, 2] if stops and by == 0 else [last, last])
    files = [path.name for path in tmp_path.glob("captured/*")]
    assert files == (["step-000000003.safetensors"] if by == 0 else [])
