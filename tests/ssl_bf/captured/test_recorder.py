"""Steps that break are written and made again bit for bit; where they broke is named."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import ssl_bf.methods.moco_v2
import ssl_bf.train
import ssl_bf.verify.replay
from linear_eval.system.errors import InputError
from ssl_bf.build import Run
from ssl_bf.captured.step_file import _seal, read
from ssl_bf.cli import main
from ssl_bf.keyed_random import StepContext
from ssl_bf.losses.info_nce import info_nce
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.method import Method
from ssl_bf.run.build_method import build_method
from ssl_bf.run.log import NonFiniteLoss
from ssl_bf.schedules import Elapsed
from ssl_bf.train import train
from ssl_bf.verify.replay import replay
from tests import tiny_moco

MOCO_V3 = [
    *("method.name=moco_v3", "method.projection_dim=16", "method.hidden_dim=16"),
    "optimizer.name=lars",
]
SIMSIAM = [
    *("method.name=simsiam", "method.projection_dim=16", "method.predictor_hidden_dim=8"),
    "optimizer.name=adamw",
]
LAST = "step-{:09d}.safetensors"


def build(*overrides: str) -> Run:
    ours = ["optimizer.warmup_epochs=0", "speed.threads=1", "run.log_every=4"]
    return tiny_moco.build(*ours, *overrides)


def captured(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "captured").glob("*"))


@pytest.mark.parametrize("step", [1, 5])
@pytest.mark.parametrize("method", [[], MOCO_V3, SIMSIAM], ids=["moco_v2", "moco_v3", "simsiam"])
def test_a_step_that_is_asked_for_is_repeated_bit_for_bit(
    method: list[str], step: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(build(*method, f"run.capture_step={step}", "epochs=2"), tmp_path)
    path = tmp_path / "captured" / LAST.format(step)
    assert captured(tmp_path) == [path.name]
    capsys.readouterr()
    assert main(["replay", str(path)]) == 0
    out = capsys.readouterr().out
    assert "first went wrong: nowhere" in out
    assert "repeated bit for bit" in out


OF_SHARDS = {
    "moco_v2": ["speed.reduction=fast"],
    "moco_v3 ordered": [*MOCO_V3, "speed.reduction=ordered"],
    "accumulate bf16": ["accumulate=2", "precision=bf16", "speed.reduction=ordered"],
    "per view": ["method.symmetric=true", "speed.per_view_backward=true"],
    "channels_last": ["speed.channels_last=true"],
    "global": ["relation.name=bgformer", "relation.context=global", "relation.top_k=4"],
    "foreign": ["relation.name=foreign"],
}


@pytest.mark.parametrize("given", OF_SHARDS.values(), ids=OF_SHARDS)
def test_so_is_one_of_several_shards(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = ["shards=2", "relation.context=local", *given]
    train(build(*shards, "run.capture_step=5", "epochs=2"), tmp_path)
    capsys.readouterr()
    assert main(["replay", str(tmp_path / "captured" / LAST.format(5))]) == 0
    out = capsys.readouterr().out
    assert "2 shards, of 1 process(es)" in out
    assert "repeated bit for bit" in out


@pytest.mark.parametrize("shards", [1, 2])
def test_steps_made_again_are_those_of_the_run(
    shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the state that is written would be none that the run ever had."""
    asked, failing = tmp_path / "asked", tmp_path / "failing"
    for directory in (asked, failing):
        directory.mkdir()
    given = ["method.symmetric=true", f"shards={shards}", "relation.context=local"]
    train(build(*given, "run.capture_step=7"), asked)

    sound = ssl_bf.methods.moco_v2.MoCoV2.forward

    def breaking(self: Any, batch: Batch, context: StepContext) -> Tensor:
        loss = sound(self, batch, context)
        return loss * float("nan") if context.step >= 6 else loss

    monkeypatch.setattr(ssl_bf.methods.moco_v2.MoCoV2, "forward", breaking)
    with pytest.raises(NonFiniteLoss, match="at step 7"):
        train(build(*given), failing)
    before, again = (read(place / "captured" / LAST.format(7)) for place in (asked, failing))
    assert before.before.keys() == again.before.keys()
    for name, value in before.before.items():
        assert torch.equal(value, again.before[name]), name
    assert torch.equal(before.batch.views[0], again.batch.views[0])


@pytest.mark.parametrize("where", ["forward", "backward", "update"])
def test_what_broke_in_a_shard_is_found(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(build("shards=2", "relation.context=local", "run.capture_step=5"), tmp_path)
    forward, after = ssl_bf.methods.moco_v2.MoCoV2.forward, ssl_bf.methods.moco_v2.MoCoV2.after_step

    def broken_forward(self: Any, batch: Batch, context: StepContext) -> Tensor:
        loss = forward(self, batch, context)
        if context.shard == 0 or where == "update":
            return loss
        if where == "forward":
            return loss * 3e38 * 10
        loss.register_hook(lambda gradient: gradient * 3e38 * 10)
        return loss

    def broken_after(self: Any, progress: Elapsed) -> None:
        after(self, progress)
        if where == "update":
            with torch.no_grad():
                next(self.projector.parameters()).mul_(3e38).mul_(3e38)

    monkeypatch.setattr(ssl_bf.methods.moco_v2.MoCoV2, "forward", broken_forward)
    monkeypatch.setattr(ssl_bf.methods.moco_v2.MoCoV2, "after_step", broken_after)
    found = replay(tmp_path / "captured" / LAST.format(5)).first_wrong
    assert found is not None
    assert f"in {where}, operation mul" in found
    assert ("first gradient: " in found) == (where == "backward")


def test_steps_of_the_first_format_are_read_and_those_of_a_later_one_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(build("run.capture_step=2", "epochs=1"), tmp_path)
    path = tmp_path / "captured" / LAST.format(2)
    facts, tensors = asdict(read(path).facts), load_file(path)

    def rewrite(version: int) -> None:
        text = json.dumps({**facts, "version": version})
        save_file(tensors, path, {"ssl_bf_step": text, "sha256": _seal(text, tensors)})

    rewrite(3)
    capsys.readouterr()
    assert main(["replay", str(path)]) == 2
    assert f"{path}: has format 3, expected 2; read it with" in capsys.readouterr().err
    for later in ("shards", "processes", "changes"):
        del facts[later]
    rewrite(1)
    assert replay(path).is_same


def test_capturing_leaves_the_run_alone(tmp_path: Path) -> None:
    with_it, without = tmp_path / "with", tmp_path / "without"
    for directory, given in (
        (with_it, "run.capture_step=5"),
        (without, "run.capture_failures=false"),
    ):
        directory.mkdir()
        train(build(given), directory)
    lines = [
        [{**json.loads(line), "timing": None} for line in (d / "metrics.jsonl").open()]
        for d in (with_it, without)
    ]
    assert lines[0] == lines[1]
    assert not (without / "captured").exists()


def test_the_first_step_that_breaks_is_found_though_it_is_met_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = ssl_bf.train._update

    def poisoned(run: Run, batch: Batch, context: StepContext, progress: Elapsed) -> Tensor:
        if context.step == 5:  # as an overflow in the update would
            first = next(p for p in run.method.projector.parameters())
            with torch.no_grad():
                first.view(-1)[0] = float("nan")
        return update(run, batch, context, progress)

    monkeypatch.setattr(ssl_bf.train, "_update", poisoned)
    with pytest.raises(NonFiniteLoss, match="at step 6"):
        train(build("run.save_every=9epochs"), tmp_path)
    assert captured(tmp_path) == [LAST.format(6)]
    monkeypatch.undo()
    # what was poisoned inside of the step is not in its state: the replay comes out otherwise
    assert not replay(tmp_path / "captured" / LAST.format(6)).is_same


def test_the_term_and_the_line_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound, forward = info_nce, ssl_bf.methods.moco_v2.MoCoV2.forward

    def overflowing(*given: Any, **named: Any) -> Tensor:
        return sound(*given, **named) * 3e38 * 10

    def from_step_2(self: Any, batch: Batch, context: StepContext) -> Tensor:
        loss = overflowing if context.step >= 1 else sound
        monkeypatch.setattr(ssl_bf.methods.moco_v2, "info_nce", loss)
        return forward(self, batch, context)

    monkeypatch.setattr(ssl_bf.methods.moco_v2.MoCoV2, "forward", from_step_2)
    with pytest.raises(NonFiniteLoss, match="at step 2"):
        train(build("run.log_every=1"), tmp_path)
    path = tmp_path / "captured" / LAST.format(2)
    done = replay(path)
    assert done.is_same
    assert done.first_wrong is not None
    assert "in forward, operation mul" in done.first_wrong
    assert "moco_v2.py" in done.first_wrong


def test_the_module_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Squared(nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            return rows * torch.tensor(3e38) * torch.tensor(3e38)

    run = build("run.capture_step=1")
    train(run, tmp_path)
    captured_step = tmp_path / "captured" / LAST.format(1)

    def with_a_broken_layer(*given: Any) -> Method:
        method = build_method(*given)
        assert isinstance(method.projector, nn.Sequential)
        method.projector[1] = Squared()  # in place of its ReLU
        return method

    monkeypatch.setattr(ssl_bf.verify.replay, "build_method", with_a_broken_layer)
    done = replay(captured_step)
    assert not done.is_same
    assert done.first_wrong is not None
    assert "module projector.1" in done.first_wrong


def test_weights_that_were_broken_before_are_named(tmp_path: Path) -> None:
    run = build("run.capture_step=2", "run.log_every=100", "run.capture_failures=false")
    step = run.optimizer.step

    def breaking() -> None:
        step()
        with torch.no_grad():
            next(run.method.backbone.parameters()).fill_(float("nan"))

    run.optimizer.step = breaking  # type: ignore[method-assign,assignment]
    with pytest.raises(NonFiniteLoss):
        train(run, tmp_path)
    done = replay(tmp_path / "captured" / LAST.format(2))
    assert done.first_wrong is not None
    assert done.first_wrong.startswith("before the step: method/backbone")


@pytest.mark.parametrize("damage", ["flip", "cut", "other", "none"])
def test_a_file_that_is_no_sound_step_is_one_line(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run" / "captured" / LAST.format(1)
    if damage in ("flip", "cut"):
        (tmp_path / "run").mkdir()
        train(build("run.capture_step=1", "epochs=1"), tmp_path / "run")
        whole = path.read_bytes()
        path.write_bytes(whole[:-8] + b"\1" + whole[-7:] if damage == "flip" else whole[:-100])
    elif damage == "other":
        path = tmp_path / "backbone.safetensors"
        path.write_bytes(b"no tensors")
    with pytest.raises(InputError):
        read(path)
    assert main(["replay", str(path)]) == 2
    assert capsys.readouterr().err.count("error: ") == 1


def test_the_file_names_no_place_of_the_machine(tmp_path: Path) -> None:
    run = build("run.capture_step=1", "epochs=1", f"run.directory={tmp_path}/secret")
    train(run, tmp_path)
    assert str(tmp_path).encode() not in (tmp_path / "captured" / LAST.format(1)).read_bytes()
