"""Two processes under torchrun make one run, equal to one process with the same global batch."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import linear_eval
from linear_eval.backbones.backbone_file import load_backbone
from ssl_bf.cli import main
from ssl_bf.run.checkpoint import load_newest

pytestmark = pytest.mark.dist

ROOT = Path(linear_eval.__file__).parents[1]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TIMEOUT = 280

Tiny = Callable[[str, str], list[str]]


def run_two(arguments: list[str], place: Path) -> str:
    """Run `ssl-bf` in two gloo processes; returns what they printed."""
    process = subprocess.Popen(
        [sys.executable, *TORCHRUN, "-m", "ssl_bf", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, printed = process.communicate(timeout=TIMEOUT)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)  # torchrun killed alone would leave its processes
        process.wait()
        raise
    assert process.returncode == 0, printed
    return printed


def losses(directory: Path, steps: int) -> list[float]:
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [*range(1, steps + 1)]
    return [line["loss"] for line in lines if "loss" in line]


def test_two_processes_write_one_run_that_equals_the_run_of_one(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # SGD: AdamW divides by the size of the gradient, and so blows rounding up.
    given = [*tiny("simsiam", "none"), "method.batch_norm=synchronised", "optimizer.name=sgd"]
    given += ["optimizer.base_learning_rate=0.01", "batch_size=96", "epochs=4", "speed.device=cpu"]
    arguments = ["pretrain", "quickstart", *given]
    one, two = tmp_path / "one", tmp_path / "two"
    printed = run_two([*arguments, f"run.directory={two}"], tmp_path)
    assert main([*arguments, f"run.directory={one}"]) == 0

    # float32 sums over 48 rows, then over 2 processes, round differently from sums over 96: 1e-7
    # in the first loss, and each step multiplies it. Twice the gradient would shift it by 1e-3.
    first, *_ = zip(losses(two, 4), losses(one, 4), strict=True)
    assert first[0] == pytest.approx(first[1], abs=2e-6)
    assert losses(two, 4) == pytest.approx(losses(one, 4), abs=5e-5)
    ours, theirs = (load_backbone(place / "backbone.safetensors")[0] for place in (two, one))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=1e-4)

    assert printed.count("stripped backbone") == 1  # only the main process talks
    assert "2 process(es)" in printed
    assert "Warning" not in printed
    assert {path.name for path in two.iterdir()} == {"logs", *(path.name for path in one.iterdir())}
    assert load_newest(two).state["world_size"] == 2

    capsys.readouterr()
    assert main(["resume", str(two)]) == 0  # one process may hold the shards of two
    assert "the run is finished" in capsys.readouterr().out


@pytest.mark.slow
def test_queues_and_relations_work_in_two_processes_and_resume(tiny: Tiny, tmp_path: Path) -> None:
    given = [*tiny("moco_v2", "batchformer"), "relation.pairs=all", "speed.device=cpu"]
    run_two(["pretrain", "quickstart", *given, "run.directory=run"], tmp_path)
    whole = load_newest(tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / "step-000000006"
    newest.rename(tmp_path / "set aside")
    run_two(["resume", "run"], tmp_path)
    again = load_newest(tmp_path / "run")
    assert again.step == whole.step == 6
    for name, value in whole.tensors.items():
        assert torch.equal(again.tensors[name], value), name
    losses(tmp_path / "run", 6)
