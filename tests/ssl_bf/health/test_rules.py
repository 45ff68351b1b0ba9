"""Runs broken on purpose, each in one way, and what health says of them; healthy runs: nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ssl_bf.health.rules
import ssl_bf.methods.simsiam
from linear_eval.strict_config.reader import parse_config
from ssl_bf.build import Run, build_run
from ssl_bf.captured.run_health import UnhealthyRun
from ssl_bf.config import PretrainConfig
from ssl_bf.health.rules import RULES, Outlook, RuleName, judge
from ssl_bf.keyed_random import StepContext
from ssl_bf.losses.unit_length import unit_length
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.moco_v2 import MoCoV2
from ssl_bf.relations.surroundings import Samples
from ssl_bf.train import train

SMALL: dict[str, Any] = {
    "data": {"name": "textures", "train_images": 256, "holdout": 0.0},
    "views": {"recipe": "textures", "size": 16},
    "backbone": {"name": "small_conv"},
    "optimizer": {"name": "adamw", "base_learning_rate": 0.02, "warmup_epochs": 1},
    "epochs": 8,
    "batch_size": 32,
    "precision": "float32",
    "speed": {"device": "cpu", "threads": 1},
    "run": {
        "directory": "unused: train() is given one",
        "tensorboard": False,
        "log_every": 4,
        "monitor_every": 0,
        "save_every": "2epochs",
        "keep_last": 9,
    },
}
METHODS: dict[str, dict[str, Any]] = {
    "moco_v2": {
        **{"name": "moco_v2", "projection_dim": 32, "hidden_dim": 32, "head_batch_norm": True},
        **{"queue_size": 128, "momentum": 0.95, "in_batch_negatives": True, "symmetric": True},
    },
    "moco_v3": {"name": "moco_v3", "projection_dim": 32, "hidden_dim": 64, "temperature": 0.2},
    "simsiam": {
        **{"name": "simsiam", "projection_dim": 64, "hidden_dim": 64, "hidden_layers": 1},
        "predictor_hidden_dim": 16,
    },
}
SGD = ["optimizer.name=sgd", "optimizer.warmup_epochs=0"]
Break = Callable[[Run, pytest.MonkeyPatch], None]


def build(method: str, *overrides: str) -> Run:
    return build_run(
        parse_config(PretrainConfig, {**SMALL, "method": METHODS[method]}, overrides).value
    )


def findings(directory: Path) -> list[dict[str, Any]]:
    path = directory / "health.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def without_stop_gradient(run: Run, patch: pytest.MonkeyPatch) -> None:
    def pulled(predictions: Tensor, target: Tensor) -> Tensor:
        return -(unit_length(predictions) * unit_length(target)).sum(-1).mean(-1)

    patch.setattr(ssl_bf.methods.simsiam, "negative_cosine", pulled)


def of_other_images(run: Run, patch: pytest.MonkeyPatch) -> None:
    """The second view shows another image."""
    batch_of = run.loader.batch

    def batch(step: int) -> Batch:
        batch = batch_of(step)
        return replace(batch, views=(batch.views[0], batch.views[1].roll(1, 0)))

    patch.setattr(run.loader, "batch", batch)


def nothing_trained(run: Run, patch: pytest.MonkeyPatch) -> None:
    forward = run.method.forward
    patch.setattr(run.method, "forward", lambda *given: 0 * forward(*given))


def spike(run: Run, patch: pytest.MonkeyPatch) -> None:
    forward = run.method.forward

    def call(batch: Batch, context: StepContext) -> Tensor:
        return forward(batch, context) * (1e4 if context.step >= 40 else 1)

    patch.setattr(run.method, "forward", call)


def one_direction(run: Run, patch: pytest.MonkeyPatch) -> None:
    """The projector's last layer has rank 1."""
    last = [m for m in run.method.projector.modules() if isinstance(m, torch.nn.Linear)][-1]
    step = run.optimizer.step

    def flattened() -> None:
        step()
        with torch.no_grad():
            last.weight.copy_(last.weight[:1].expand_as(last.weight))
            last.bias.zero_()
        assert isinstance(run.method, MoCoV2)
        run.method.slow_projector.load_state_dict(run.method.projector.state_dict())

    patch.setattr(run.optimizer, "step", flattened)


def batch_leaks(run: Run, patch: pytest.MonkeyPatch) -> None:
    """All keys of a batch, and its related queries, lean to one direction of the batch."""
    method = run.method
    assert isinstance(method, MoCoV2)
    key, relate = method.key, method.relation.queries

    def leaning(rows: Tensor, context: StepContext) -> Tensor:
        generator = torch.Generator().manual_seed(context.step)
        lean = torch.randn(rows.shape[-1], generator=generator)
        return unit_length(unit_length(rows) + 2 * unit_length(lean))

    def keys(view: Tensor, samples: Samples, context: StepContext, number: int) -> Tensor:
        return leaning(key(view, samples, context, number), context)

    def queries(features: Tensor, *, context: StepContext, **given: Any) -> Tensor:
        plain, related = relate(features, context=context, **given)
        return torch.stack([unit_length(plain), leaning(related, context)])

    patch.setattr(method, "key", keys)
    patch.setattr(method.relation, "queries", queries)


DECAYS = [*SGD, "optimizer.base_learning_rate=8", "method.constant_predictor_rate=false"]
NO_LAG = [
    *(*SGD, "optimizer.base_learning_rate=3", "method.momentum=0.0"),
    *("method.head_batch_norm=false", "method.in_batch_negatives=false"),
]
RELATED = ["relation.name=batchformer", "relation.context=8"]
OWN = ["method.mask_same_image=false", "method.queue_size=1024"]
BROKEN: list[tuple[RuleName, str, list[str], Break | None, str]] = [
    ("collapse", "simsiam", DECAYS, without_stop_gradient, "the predictor's learning rate decays"),
    ("collapse", "moco_v2", NO_LAG, None, "the slow copy does not lag"),
    ("dimensional_collapse", "moco_v2", [], one_direction, "possible directions"),
    ("exploding_gradient", "simsiam", [], spike, "against a median of"),
    ("no_gradient", "simsiam", [], nothing_trained, "gradient norm 0"),
    ("no_contrast", "moco_v3", [], of_other_images, "both views show the same image"),
    ("batch_recognised", "moco_v2", RELATED, batch_leaks, "context gap"),
    ("own_image_negatives", "moco_v2", OWN, None, "set method.mask_same_image=true"),
]
FAST, SLOW = ("exploding_gradient", "no_gradient", "own_image_negatives"), pytest.mark.slow


@pytest.mark.parametrize(
    ("rule", "method", "overrides", "breaks", "words"),
    [
        pytest.param(*each, id=f"{each[0]}-{each[1]}", marks=[] if each[0] in FAST else SLOW)
        for each in BROKEN
    ],
)
def test_a_run_that_is_broken_on_purpose_is_found_out(
    rule: RuleName,
    method: str,
    overrides: list[str],
    breaks: Break | None,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # shorter than the steps in which any network learns something
    monkeypatch.setattr(ssl_bf.health.rules, "STEPS", 20)
    run = build(method, *overrides)
    if breaks is not None:
        breaks(run, monkeypatch)
    train(run, tmp_path)
    found = {each["rule"]: each["says"] for each in findings(tmp_path)}
    assert rule in found, found
    assert words in found[rule]


@pytest.mark.parametrize("method", METHODS)
def test_a_healthy_run_is_left_in_peace(method: str, tmp_path: Path) -> None:
    train(build(method, *RELATED), tmp_path)
    assert findings(tmp_path) == []


def test_a_run_stops_on_what_is_named_and_keeps_the_last_healthy_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["run.stop_on=[collapse, exploding_gradient]", "run.save_every=1epochs"]
    run = build("simsiam", *given)
    spike(run, monkeypatch)
    with pytest.raises(UnhealthyRun) as stopped:
        train(run, tmp_path)
    (finding,) = findings(tmp_path)
    assert finding["rule"] == "exploding_gradient"
    assert finding["step"] in (44, 48)
    says = "(stopped, as run.stop_on says; the newest checkpoint, of step 40, is kept)"
    assert str(stopped.value) == f"{finding['says']} {says}"
    steps = [int(path.name[5:]) for path in (tmp_path / "checkpoints").iterdir()]
    assert max(steps) == 40  # that of step 48 was due, and not saved
    assert not (tmp_path / "backbone.safetensors").exists()
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "failed"


def test_a_rule_that_is_not_named_only_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = build("simsiam", "run.stop_on=[collapse]", "epochs=7")
    spike(run, monkeypatch)
    train(run, tmp_path)
    assert "exploding_gradient" in [each["rule"] for each in findings(tmp_path)]
    assert (tmp_path / "backbone.safetensors").exists()


def test_a_collapse_is_told_in_words() -> None:
    run = Outlook(
        method="SimSiam",
        rows=512,
        width=512,
        total_steps=4000,
        suspects={"collapse": "the predictor's learning rate decays"},
    )
    before = [{"step": 762.0, "feature_std/stream_0": 0.98}]
    reading = {"step": 812.0, "feature_std/stream_0": 0.0004 * 512**0.5}
    finding = judge("collapse", reading, before, run)
    assert finding is not None
    assert finding.says == (
        "SimSiam collapsed at step 812: feature std 0.0004 against 0.044 expected; the "
        "predictor's learning rate decays"
    )
    early = {**reading, "step": 700.0}
    assert judge("collapse", early, [], run) is None  # low from the start: not learned yet
    assert judge("collapse", before[0], [], run) is None


def test_a_line_without_numbers_says_nothing() -> None:
    run = Outlook(method="SimSiam", rows=64, width=64, total_steps=100)
    assert [judge(name, {"step": 99.0}, [], run) for name in RULES] == [None] * len(RULES)
