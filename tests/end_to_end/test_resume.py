"""A run that was stopped or killed and then resumed equals the run never interrupted, bit for bit.

Both runs use the same relative directory, so that even their backbone files must agree in every
byte.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import linear_eval
import ssl_bf.train
from ssl_bf.build import Run
from ssl_bf.cli import main
from ssl_bf.keyed_random import StepContext
from ssl_bf.methods.batch import Batch
from ssl_bf.run.checkpoint import load_newest
from ssl_bf.run.signals import Asked, StopSignals
from ssl_bf.schedules import Elapsed

ROOT = Path(linear_eval.__file__).parents[1]
STEPS = 6
# Related keys in a queue of their own, moved by a slow relation, with dropout on both sides.
RELATED = ["relation.pairs=all", "relation.dropout=0.5", "relation.parameters=ema"]
CASES = {
    "moco_v2": ("moco_v2", "batchformer", [*RELATED, "method.symmetric=false"]),
    "simsiam": ("simsiam", "batchformer", ["relation.dropout=0.5", "optimizer.name=sgd"]),
    # The previous batch and the gate are state, and so is what the last steps lack.
    "foreign": (
        "moco_v2",
        "foreign",
        [*RELATED, "relation.residual=gate", "relation.active=[0.0, 0.8]"],
    ),
    "neighbours": ("simsiam", "neighbours", ["relation.dropout=0.5", "optimizer.name=sgd"]),
    "nearest_keys": ("moco_v3", "nearest_keys", ["relation.active=[0.3, 1.0]"]),
    "clusters": ("moco_v2", "clusters", ["relation.pairs=all"]),
    "moco_v3": ("moco_v3", "none", ["optimizer.name=lars", "method.momentum_schedule=cosine"]),
    "metric": ("metric", "labels", ["relation.dropout=0.5"]),
    "paco": ("moco_v2_paco", "batchformer", ["relation.dropout=0.5", "method.queue_size=48"]),
    "foreign inside": (
        "moco_v2",
        "batchformer_v2",
        [*RELATED, "relation.attention=foreign", "relation.insert_after=[2, 4]"],
    ),
    "inside": ("moco_v3", "batchformer_v2", [*RELATED, "relation.residual=gate"]),
}

Tiny = Callable[[str, str], list[str]]


def arguments(tiny: Tiny, case: str) -> list[str]:
    method, relation, more = CASES[case]
    # For speed: 54 images (and 10 held out) make 3 batches of 16.
    small = ["data.train_images=64", "batch_size=16", "run.directory=run"]
    return ["pretrain", "quickstart", *tiny(method, relation), *more, *small]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> Callable[[str], Path]:
    """The run that nothing interrupts, per case."""
    root = tmp_path_factory.mktemp("whole")

    def run(case: str) -> Path:
        place = root / case
        if not place.exists():
            place.mkdir()
            before = Path.cwd()
            os.chdir(place)
            try:
                assert main(arguments(tiny, case)) == 0
            finally:
                os.chdir(before)
        return place / "run"

    return run


def reproducible(directory: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without wall-clock values."""
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["timing"]
    return lines


def assert_same_runs(resumed: Path, whole: Path) -> None:
    ours, theirs = load_newest(resumed), load_newest(whole)
    assert ours.step == theirs.step == STEPS
    assert ours.state == theirs.state
    assert ours.tensors.keys() == theirs.tensors.keys()
    unequal = [
        name
        for name, value in theirs.tensors.items()
        if value.dtype != ours.tensors[name].dtype or not torch.equal(value, ours.tensors[name])
    ]
    assert unequal == []
    assert reproducible(resumed) == reproducible(whole)
    file = "backbone.safetensors"
    assert (resumed / file).read_bytes() == (whole / file).read_bytes()
    assert json.loads((resumed / "status.json").read_text())["state"] == "finished"


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Answer the loop as after a signal, once `steps` steps have been made."""
    asked = 0

    def agreed(self: StopSignals, *, save_is_due: bool) -> Asked:
        nonlocal asked
        asked += 1
        return Asked(asked == steps, save_is_due)

    monkeypatch.setattr(StopSignals, "agreed", agreed)


@pytest.mark.parametrize(
    ("case", "steps"),
    [
        *[("moco_v2", 1), ("moco_v2", 4), ("simsiam", 2), ("simsiam", 3), ("moco_v3", 5)],
        *[("foreign", 1), ("foreign", 4), ("neighbours", 2), ("nearest_keys", 3), ("clusters", 2)],
        *[("inside", 4), ("foreign inside", 3), ("metric", 2), ("paco", 4)],
    ],
)
def test_a_run_that_was_asked_to_stop_goes_on_as_if_never_stopped(
    case: str,
    steps: int,
    tiny: Tiny,
    whole: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = whole(case)
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        capsys.readouterr()
        assert main(arguments(tiny, case)) == 75
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"stopped at step {steps} of {STEPS} and saved; go on with: ssl-bf resume run"
    )
    assert not Path("run/backbone.safetensors").exists()
    assert json.loads(Path("run/status.json").read_text())["state"] == "stopped"
    assert main(["resume", "run"]) == 0
    assert_same_runs(Path("run"), expected)


def test_a_run_stopped_twice_goes_on_each_time(
    tiny: Tiny, whole: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = whole("moco_v2")
    monkeypatch.chdir(tmp_path)
    for command in (arguments(tiny, "moco_v2"), ["resume", "run"]):
        with monkeypatch.context() as patch:
            stop_after(patch, 2)
            assert main(command) == 75
    assert main(["resume", "run"]) == 0
    assert_same_runs(Path("run"), expected)


def test_a_signal_in_the_last_step_finishes_the_run(
    tiny: Tiny, whole: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = whole("simsiam")
    monkeypatch.chdir(tmp_path)
    stop_after(monkeypatch, STEPS)
    assert main(arguments(tiny, "simsiam")) == 0
    assert_same_runs(Path("run"), expected)


def test_what_a_crash_left_after_its_last_checkpoint_is_made_again(
    tiny: Tiny, whole: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = whole("moco_v2")
    monkeypatch.chdir(tmp_path)
    update = ssl_bf.train._update

    def crash(run: Run, batch: Batch, context: StepContext, progress: Elapsed) -> torch.Tensor:
        if context.step == 4:
            raise MemoryError("as out of memory")
        return update(run, batch, context, progress)

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(ssl_bf.train, "_update", crash)
        main(arguments(tiny, "moco_v2"))
    assert reproducible(Path("run"))[-1]["step"] == 4  # past the checkpoint of step 3
    assert json.loads(Path("run/status.json").read_text())["state"] == "failed"
    assert main(["resume", "run"]) == 0
    assert_same_runs(Path("run"), expected)


class Signalled(NamedTuple):
    """A process, and the folder it runs in."""

    place: Path
    process: "subprocess.Popen[str]"


# The real thing: a process of its own sends itself a signal in the middle of a step.
CHILD = """
import os, signal, sys
import ssl_bf.train
from ssl_bf.cli import main

update = ssl_bf.train._update
number, at = signal.Signals[sys.argv[1]], int(sys.argv[2])


def update_with_signal(run, batch, context, progress):
    loss = update(run, batch, context, progress)
    if context.step == at:
        os.kill(os.getpid(), number)
    return loss


ssl_bf.train._update = update_with_signal
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def signalled(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> dict[str, Signalled]:
    """Both processes, at the same time: most of theirs is spent on loading torch."""
    ended = {}
    for name, case in (("SIGTERM", "simsiam"), ("SIGKILL", "moco_v2")):
        place = tmp_path_factory.mktemp(name)
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, name, "4", *arguments(tiny, case)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=place,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        ended[name] = Signalled(place, process)
    return ended


@pytest.mark.parametrize(
    ("name", "case", "code", "steps_saved"),
    [("SIGTERM", "simsiam", 75, 5), ("SIGKILL", "moco_v2", -signal.SIGKILL, 3)],
)
def test_a_process_that_gets_a_signal_can_be_resumed(
    name: str,
    case: str,
    code: int,
    steps_saved: int,
    whole: Callable[[str], Path],
    signalled: dict[str, Signalled],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = whole(case)
    place, process = signalled[name].place, signalled[name].process
    _, errors = process.communicate(timeout=240)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    monkeypatch.chdir(place)
    assert load_newest(Path("run")).step == steps_saved
    assert not Path("run/backbone.safetensors").exists()
    assert main(["resume", "run"]) == 0
    assert_same_runs(Path("run"), expected)
