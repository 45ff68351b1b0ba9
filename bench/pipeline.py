"""MoCo-v2 from images to updates, an epoch: ours and lightly's. Run: python -m bench.pipeline.

Ours is the loop of `ssl-bf pretrain`, in bfloat16, its views made on the device. Its peer is
lightly as documented: its transform on PIL images in a DataLoader with a worker per core, its
modules, loss and memory bank, float32. Both train the same method (one direction, BatchNorm of the
whole batch) from the same weights and queue at the same learning rates. Workers persist, and a CUDA
graph is captured once, as in a long run.

Two sets of images: 32 px with ResNet-18 (--data FOLDER: CIFAR-10; else textures), and JPEG files at
224 px with ResNet-18 and ResNet-50 (BENCH_IMAGES=FOLDER; else made up), each file under many names.
From JPEGs ours decodes once, before the clock starts, what fits into the device's memory; what
decoding at every use costs is a variant of its own.
"""

from __future__ import annotations

import copy
import json
import os
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

import ssl_bf.train
from bench.input import made_up_jpegs
from bench.lightly_epochs import lightly_epochs, lightly_model
from bench.loop import repeatable_training
from bench.options import lacks_gpu, parse
from bench.rounds import compare, show_images_per_second
from bench.step import Stepped, difference, float32_tolerance, gradients_of
from bench.views import alike
from linear_eval.datasets.image_formats import image_suffixes
from linear_eval.strict_config.reader import load_config
from ssl_bf.build import Run, build_run
from ssl_bf.captured.cuda_graph import CapturedStep
from ssl_bf.config import PretrainConfig
from ssl_bf.views.recipes import ViewsConfig

LOSS = 0.25  # largest relative difference of the last loss: other views, another precision
STEPS = {"cifar10": 97, "jpeg": 40}  # 97: all of CIFAR-10's train at batch 512
SAME_METHOD = ["method.batch_norm=local", "method.symmetric=false", "method.mask_same_image=false"]
SAME_METHOD += ["data.holdout=0", "run.monitor_every=0", "run.tensorboard=false"]
SAME_METHOD += ["run.log_every=1000000"]
QUICK = ["batch_size=32", "method.queue_size=64"]


class Epoch(NamedTuple):
    """What an epoch has done, and two views of a batch of it, made when asked for."""

    steps: int
    loss: float  # of the last step
    views: Callable[[], tuple[Tensor, Tensor]]


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """One table for each network."""
    options = parse("MoCo-v2 end to end against lightly's pipeline.", argv, rounds=3)
    if lacks_gpu(options):
        return []
    rows = cifar10(options)
    with TemporaryDirectory() as folder:
        images = os.environ.get("BENCH_IMAGES")
        source = Path(images) if images else made_up_jpegs(Path(folder) / "few", options.quick)
        count = 2 * 32 if options.quick else STEPS["jpeg"] * 256
        many = repeated(source, Path(folder) / "many", count)
        for backbone in ("resnet18",) if options.quick else ("resnet18", "resnet50"):
            rows += jpeg(options, backbone, many, is_made_up=images is None)
    return rows


def cifar10(options: Namespace) -> list[dict[str, Any]]:
    """ResNet-18 for 32 px, batch 512."""
    images = 2 * 32 if options.quick else STEPS["cifar10"] * 512
    made_up = ["data.name=textures", f"data.train_images={images}"]
    given = [f"data.root={options.data}"] if options.data else made_up
    make = partial(make_run, options, "moco_v2_cifar10", *given)
    runs = {"ours": make()}
    if options.device == "cuda":
        runs["ours, CUDA graph"] = make("speed.cuda_graph=true")
    return one_table("pipeline_cifar10", runs, options, {"made_up": options.data is None})


def jpeg(
    options: Namespace, backbone: str, folder: Path, *, is_made_up: bool
) -> list[dict[str, Any]]:
    """Files of one folder, batch 256."""
    given = ["data.name=image_folder", f"data.root={folder}", f"backbone.name={backbone}"]
    given += ["views.size=64"] if options.quick else []
    make = partial(make_run, options, "moco_v2_imagenet", *given)
    runs = {"ours": make(), "ours, decoding at every use": make("speed.images=files")}
    return one_table(f"pipeline_jpeg_{backbone}", runs, options, {"made_up": is_made_up})


def make_run(options: Namespace, config: str, *given: str) -> Run:
    """A packaged run, cut to one epoch of what lightly's modules can do as well."""
    given = (*given, *SAME_METHOD, f"speed.device={options.device}")
    given += tuple(QUICK) if options.quick else ()
    run = build_run(load_config(PretrainConfig, config, list(given), packaged="pretrain").value)
    for line in run.notes:
        print(line)
    return replace(run, plan=replace(run.plan, epochs=1))


def one_table(
    name: str, runs: dict[str, Run], options: Namespace, facts: dict[str, Any]
) -> list[dict[str, Any]]:
    """Compare epochs; variants start from the same state, and go on from round to round."""
    run = runs["ours"]
    workers = 2 if options.quick else len(os.sched_getaffinity(0))
    wrong = first_step_difference(run, options.device)
    lightly = lightly_epochs(run, workers)
    images = run.plan.total_steps * run.config.batch_size
    with repeatable_training() as folder:
        variants = {key: our_epochs(each, folder) for key, each in runs.items()}
        variants["lightly, float32 as shipped"] = lambda: Epoch(*lightly())
        rows = compare(
            name,
            variants,
            check=lambda ours, theirs: wrong or same_training(ours, theirs, run.config.views),
            options=options,
            facts={
                "images": images,
                "batch": run.config.batch_size,
                "size": run.config.views.size,
                "backbone": run.config.backbone.architecture,
                "workers": workers,
                **facts,
            },
            flop=0.0,
        )
    for each in runs.values():
        each.loader.close()
    show_images_per_second(rows, images)
    return rows


def our_epochs(run: Run, folder: Path) -> Callable[[], Epoch]:
    """Train as the command does."""
    update = partial(ssl_bf.train._update, run)
    held = CapturedStep(run, update) if run.config.speed.cuda_graph else None

    def views() -> tuple[Tensor, Tensor]:
        batch = run.loader.batch(0)
        view_1, view_2 = batch.views
        return view_1, view_2

    def epoch() -> Epoch:
        with patch.object(ssl_bf.train, "CapturedStep", lambda *_: held):
            ssl_bf.train.train(run, folder)
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return Epoch(run.plan.total_steps, json.loads(lines[-1])["loss"], views)

    return epoch


def first_step_difference(run: Run, device: str) -> str:
    """What differs in the first step, both in float32 and on the same views; `run` stays."""
    batch, method = run.loader.batch(0), copy.deepcopy(run.method)
    theirs = lightly_model(run)
    their_loss = theirs.step(*batch.views)
    loss = method(batch)
    loss.backward()
    return difference(
        Stepped("float32", loss.detach(), gradients_of(method)),
        Stepped("float32", their_loss, gradients_of(theirs.network)),
        float32_tolerance(device),
    )


def same_training(ours: Epoch, theirs: Epoch, views: ViewsConfig) -> str:
    """Whether as many steps, views drawn alike, came to the same loss."""
    if ours.steps != theirs.steps:
        return f"{ours.steps} and {theirs.steps} steps"
    if not abs(ours.loss / theirs.loss - 1) <= LOSS:  # nor NaN
        return f"loss {ours.loss:.3f} and {theirs.loss:.3f}"
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (views.mean, views.std))
    pixels = [[view.cpu() * std + mean for view in each.views()] for each in (ours, theirs)]
    return alike(*pixels)


def repeated(images: Path, folder: Path, count: int) -> Path:
    """A folder with `count` names for the images below another."""
    folder.mkdir()
    files = sorted(p for p in images.rglob("*") if p.suffix[1:].lower() in image_suffixes())
    for number in range(count):
        file = files[number % len(files)].resolve()
        (folder / f"{number:06d}{file.suffix}").symlink_to(file)
    return folder


if __name__ == "__main__":
    main()
