"""How `context_gap` answers to a batch that can be recognised. Run: python -m bench.context_gap.

Short runs of the quickstart, with head and negatives of MoCo-v2 as published. All features of a
step, on both sides, get one direction added that is drawn anew for each step: a signature of the
batch, in lengths of a feature's typical distance from the mean of its batch. Queued keys carry the
signatures of other steps. The meter is averaged over the last steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bench.options import parse
from bench.rounds import append, machine
from linear_eval.strict_config.reader import load_config
from ssl_bf.build import build_run
from ssl_bf.config import PretrainConfig
from ssl_bf.keyed_random import generator
from ssl_bf.methods.moco_v2 import MoCoV2
from ssl_bf.train import _update, prepare

STRENGTHS = (0.0, 0.25, 0.5, 1.0, 2.0)
LAST = 10  # steps that are averaged
NO_GAP = 0.03  # of a mean over so few steps, without a signature
WHOLE_GAP = 0.1  # at least, with the strongest


class Signature:
    """Adds the direction of the step to what a backbone gives."""

    def __init__(self, strength: float) -> None:
        """`strength` in lengths of a feature's distance from its mean."""
        self.strength, self.step = strength, 0

    def __call__(self, module: nn.Module, given: Any, features: Tensor) -> Tensor:
        """(N, D) -> (N, D); a forward hook."""
        del module, given
        apart = (features - features.mean(dim=0)).norm(dim=1).mean().detach()
        source = generator("signature", self.step)
        direction = nn.functional.normalize(torch.randn(features.shape[1], generator=source), dim=0)
        added: Tensor = self.strength * apart * direction
        return features + added


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """One row for each strength, without relation and with BatchFormer."""
    options = parse("context_gap against the strength of a signature of the batch.", argv)
    strengths = (0.0, 1.0) if options.quick else STRENGTHS
    steps = 16 if options.quick else 80
    found: list[dict[str, Any]] = []
    for relation in ("none", "batchformer"):
        for strength in strengths:
            gaps = measured(relation, strength, steps, options.seed)
            row = {
                "benchmark": "context_gap",
                "variant": relation,
                "strength": strength,
                "steps": steps,
                **{name: round(gap, 3) for name, gap in gaps.items()},
                "wrong": wrong(found, relation, strength, gaps),
                **machine("cpu"),
            }
            shown = ", ".join(f"{name} {gap:.3f}" for name, gap in gaps.items())
            print(f"{relation:12} {strength:5}  {shown}  {row['wrong']}")
            found.append(row)
    append(options.output / "context_gap.jsonl", found)
    return found


def measured(relation: str, strength: float, steps: int, seed: int) -> dict[str, float]:
    """Mean of the meter over the last steps of a short run, by stream."""
    given = [f"relation.name={relation}", f"seed={seed}", f"data.train_images={64 * steps}"]
    given += ["batch_size=64", "method.queue_size=512", "data.holdout=0", "run.monitor_every=0"]
    given += ["precision=float32", "speed.threads=1", "optimizer.warmup_epochs=0", "epochs=1"]
    # as published: BatchNorm would take off what all rows have in common
    given += ["method.head_batch_norm=false", "method.in_batch_negatives=false"]
    config = load_config(PretrainConfig, "quickstart", given, packaged="pretrain").value
    run = build_run(config)
    method = run.method
    assert isinstance(method, MoCoV2)
    signature = Signature(strength)
    for backbone in (method.backbone, method.slow_backbone):
        backbone.register_forward_hook(signature)
    run.model.train()
    taken: dict[str, list[float]] = {}
    for step in range(steps):
        signature.step = step
        _update(run, run.loader.batch(step), *prepare(run, step))
        if step >= steps - LAST:
            for name, value in method.measurements().items():
                if name.startswith("context_gap"):
                    taken.setdefault(name, []).append(value)
    run.loader.close()
    return {name: sum(values) / len(values) for name, values in taken.items()}


def wrong(
    found: list[dict[str, Any]], relation: str, strength: float, gaps: dict[str, float]
) -> str:
    """What the meter should not show: a gap without a signature, or one that falls with it."""
    before = [row for row in found if row["variant"] == relation]
    for name, gap in gaps.items():
        if strength == 0 and abs(gap) > NO_GAP:
            return f"{name} is {gap:.3f} without a signature"
        if before and gap < before[-1][name] - NO_GAP:
            return f"{name} falls with the signature"
        if strength == STRENGTHS[-1] and gap < WHOLE_GAP:
            return f"{name} hardly answers to the strongest signature"
    return ""


if __name__ == "__main__":
    main()
