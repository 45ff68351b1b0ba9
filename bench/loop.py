"""The whole training loop against its own step on prepared views. Run: python -m bench.loop.

The whole loop reads images, makes views, steps and logs; what a real run writes once in thousands
of steps (a checkpoint, the backbone) is left out. `--data FOLDER` takes the images of a CIFAR-10
folder; without it as many procedural ones lie in memory, of the same size.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from torch.utils.flop_counter import FlopCounterMode

import ssl_bf.train
from bench.options import parse
from bench.rounds import compare, measure
from linear_eval.strict_config.reader import load_config
from ssl_bf.build import Run, build_run
from ssl_bf.config import PretrainConfig
from ssl_bf.methods.batch import Batch
from ssl_bf.train import _update, prepare
from ssl_bf.views.loader import ViewLoader

BATCH_SIZE = {"cpu": 128, "cuda": 512}
STEPS = {"cpu": 2, "cuda": 60}
QUICK = ["backbone.name=small_conv", "method.queue_size=64", "data.train_images=64"]


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Give the share of its time that the whole loop spends in the step."""
    options = parse("The whole loop against the step alone.", argv)
    steps = 2 if options.quick else STEPS[options.device]
    run = make_run(options.device, steps, data=options.data, quick=options.quick)
    batches = [run.loader.batch(step) for step in range(steps)]
    with FlopCounterMode(display=False) as counter:
        _update(run, batches[0], *prepare(run, 0))
    preparing = [measure(partial(run.loader.batch, step), options.device)[0] for step in range(5)]
    with repeatable_training() as folder:
        rows = compare(
            "loop",
            {
                "whole loop": partial(whole_loop, run, folder),
                "step on prepared views": partial(steps_alone, run, batches),
            },
            check=lambda ours, theirs: "" if ours == theirs else f"{ours} and {theirs} steps",
            options=options,
            facts={
                "batch_size": run.config.batch_size,
                "steps": steps,
                "data": run.config.data.name,
                "seconds_for_views": round(statistics.median(each.wall for each in preparing), 4),
            },
            flop=float(steps * counter.get_total_flops()),
        )
    run.loader.close()
    print(f"the whole loop runs at {100 * rows[1]['wall_ratio']:.1f} % of the step's speed")
    return rows


@contextmanager
def repeatable_training() -> Iterator[Path]:
    """A run directory for `ssl_bf.train.train`, which may be called again and again inside."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(ViewLoader, "close"))  # it serves every round
        for rare in ("_save", "_hand_over"):
            stack.enter_context(patch.object(ssl_bf.train, rare))
        yield Path(stack.enter_context(TemporaryDirectory()))


def make_run(device: str, steps: int, *, data: str | None, quick: bool) -> Run:
    """The CIFAR-10 run of MoCo-v2, cut to a few steps."""
    batch_size = 16 if quick else BATCH_SIZE[device]
    images = ["data.name=textures", f"data.train_images={steps * batch_size}", "data.holdout=0"]
    given = [f"data.root={data}"] if data else images
    given += [f"batch_size={batch_size}", "run.tensorboard=false", f"speed.device={device}"]
    given += [f"run.log_every={steps}", "run.monitor_every=0", *(QUICK if quick else [])]
    config = load_config(PretrainConfig, "moco_v2_cifar10", given, packaged="pretrain").value
    run = build_run(config)
    run.model.train()
    return replace(run, plan=replace(run.plan, steps_per_epoch=steps, epochs=1, warmup_epochs=0.0))


def whole_loop(run: Run, folder: Path) -> int:
    """Train as the command does, and give the number of steps."""
    ssl_bf.train.train(run, folder)
    return run.plan.total_steps


def steps_alone(run: Run, batches: list[Batch]) -> int:
    """The same steps on views that are there."""
    losses = [_update(run, batch, *prepare(run, step)) for step, batch in enumerate(batches)]
    assert torch.stack(losses).isfinite().all()  # the loop looks at them too
    return len(losses)


if __name__ == "__main__":
    main()
