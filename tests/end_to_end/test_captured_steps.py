"""Steps of two processes are captured whole, and made again by one."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from linear_eval.system.distributed import rank
from ssl_bf.captured.step_file import read
from ssl_bf.keyed_random import StepContext
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.moco_v2 import MoCoV2
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


def breaking(directory: str, at: int) -> Result:
    """The loss of the second process breaks; returns the step at which this one ended."""
    sound = MoCoV2.forward

    def forward(self: MoCoV2, batch: Batch, context: StepContext) -> Tensor:
        loss = sound(self, batch, context)
        return loss * float("nan") if rank() == 1 and context.step == at - 1 else loss

    with patch.object(MoCoV2, "forward", forward):
        try:
            train(tiny_moco.build(*GIVEN), Path(directory))
        except NonFiniteLoss as error:
            return {"step": torch.tensor(error.step)}
    return {}


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


@pytest.mark.parametrize("at", [3, 5])
def test_all_processes_end_at_the_step_that_broke_in_one(
    two_processes: TwoProcesses, at: int, tmp_path: Path
) -> None:
    """Step 5 has a line of the log; step 3 is met by it, and made again."""
    ends = [result["step"].item() for result in two_processes(breaking, str(tmp_path), at)]
    assert ends == [at, at]
    assert [path.name for path in (tmp_path / "captured").iterdir()] == [
        f"step-{at:09d}.safetensors"
    ]
