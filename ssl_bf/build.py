"""From the configuration to objects: the only file that reads the whole of it.

Derived values (peak learning rate, steps) are computed here once, reported, never written back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.selection import limit_images, split_holdout
from linear_eval.system.atomic_file import check_outside
from linear_eval.system.device import choose_device
from linear_eval.system.distributed import rank, world_size
from linear_eval.system.errors import InputError
from ssl_bf.choices.measured_choices import Choices, choose
from ssl_bf.choices.pace import time_needed
from ssl_bf.choices.setting_checks import (
    check_captured,
    check_labels,
    check_machine,
    check_sampler,
    check_whole_backbone,
    setting_notes,
)
from ssl_bf.config import PretrainConfig
from ssl_bf.methods.classes import Classes
from ssl_bf.methods.method import Method
from ssl_bf.monitor import Monitor
from ssl_bf.optimizers import build_optimizer, peak_learning_rate
from ssl_bf.pixels.residency import open_images
from ssl_bf.pixels.source import Source, open_source
from ssl_bf.pixels.store import ImageStore
from ssl_bf.ranks.distributed_method import distribute
from ssl_bf.ranks.sharded_step import ShardedStep
from ssl_bf.ranks.shards_of_run import check_shards, shards_note, shards_of
from ssl_bf.run.build_method import build_method, check_room
from ssl_bf.samplers.sampler import Pool, Sampler
from ssl_bf.schedules import Plan
from ssl_bf.shards.shard import computing
from ssl_bf.shards.turns import HeldShards
from ssl_bf.views.loader import ViewLoader


@dataclass(frozen=True, eq=False)
class Trained:
    """What a step changes, and what it is made with."""

    config: PretrainConfig
    device: torch.device
    choices: Choices
    method: Method
    model: nn.Module  # the method, inside DDP when there are several processes
    optimizer: torch.optim.Optimizer
    plan: Plan
    sharded: ShardedStep | None  # makes the steps where a shard is not a process

    @property
    def num_shards(self) -> int:
        """Into which a batch is cut."""
        return world_size() if self.sharded is None else self.sharded.shards.count


@dataclass(frozen=True, eq=False)
class Run(Trained):
    """Everything that training needs, built and checked, nothing written yet."""

    loader: ViewLoader
    monitor: Monitor | None
    images: ImageSplit  # that are trained on
    notes: list[str]  # log lines


def build_run(
    config: PretrainConfig,
    *,
    directory: Path | None = None,
    begun: Mapping[str, Any] | None = None,
) -> Run:
    """Make every object of a run.

    Args:
        config: the whole run.
        directory: what will be written to, refused where it lies among the training images.
        begun: state of the checkpoint of a run that goes on.

    Raises:
        InputError: the data, a file or a combination of settings does not work.
    """
    device = choose_device(config.speed.device)
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device())  # as its tensors name it
    shards = shards_of(config, begun)
    check_machine(config, device)
    check_shards(config, shards)
    source = open_source(config.data)
    if directory is not None:
        check_outside(directory, source.split.folder, "run.directory")
    train, holdout = split_data(config, source)
    if config.batch_size > len(train):
        raise InputError(
            f"batch_size: {config.batch_size} is more than the {len(train)} training images, "
            "expected at least one whole batch; lower batch_size or add images"
        )
    pool = Pool(config.seed, config.batch_size, train.labels, train.domains)
    sampler = config.sampler.build(pool)
    classes = Classes.of(train.class_names, train.labels)
    check_room(config, classes, device)
    method = build_method(config, classes).to(device)
    check_labels(config, method, train)
    check_sampler(config, method, sampler)
    check_whole_backbone(config, method)
    if config.speed.channels_last:
        method = method.to(memory_format=torch.channels_last)
    fit_to_shards(method, config, shards)
    check_captured(config, method)
    if config.speed.compile:
        method.compile_backbones()

    images = _open_images(config, train, source, device)
    loader = _build_loader(config, images, sampler, method, device)
    plan = _build_plan(config, loader.steps_per_epoch)
    method.relation.check_steps(plan.steps_per_epoch, plan.total_steps)
    optimizer = build_optimizer(config.optimizer, method.parameter_groups())
    notes = [
        f"{len(train)} training images, {len(holdout)} held out; {loader.steps_per_epoch} steps "
        f"per epoch, {plan.total_steps} in all; peak learning rate {plan.peak_learning_rate:.4g}; "
        f"{world_size()} process(es) on {device.type}",
        *shards_note(config, shards, begun),
        images.note,
        *method.notes(),
        *setting_notes(config, device),
    ]
    monitor = _build_monitor(config, train, holdout, device)
    if monitor is None and config.run.monitor_every:
        unlabelled = bool((train.labels < 0).any())
        why = "the images have no labels" if unlabelled else "data.holdout leaves no images for it"
        notes.append(f"no k-NN monitor: {why}")
    choices = choose(config, device, begun)  # last: what is wrong is found sooner than it measures
    torch.set_num_threads(choices.threads)
    notes += choices.notes
    notes += time_needed(config, plan.total_steps, choices.seconds_per_view)
    sharded = None
    if shards.count != world_size() or config.speed.reduction == "ordered":
        sharded = ShardedStep(
            method,
            optimizer,
            shards,
            in_bf16=choices.precision == "bf16",
            is_ordered=config.speed.reduction == "ordered",
        )
    return Run(
        config=config,
        device=device,
        choices=choices,
        method=method,
        model=distribute(method, device) if sharded is None else method,
        sharded=sharded,
        optimizer=optimizer,
        plan=plan,
        loader=loader,
        monitor=monitor,
        images=train,
        notes=notes,
    )


def fit_to_shards(method: Method, config: PretrainConfig, shards: HeldShards) -> None:
    """Tell a method how large its steps are.

    Raises:
        InputError: the rows of a shard are too few, or do not fit the relation or `accumulate`.
    """
    local_batch = config.batch_size // shards.count
    with computing(shards.first()):
        method.check_batch(local_batch, shards.count)
        method.relation.make_room(local_batch, config.views.size)
        method.compute_in_parts(config.accumulate, local_batch)
    method.backward_per_view = config.speed.per_view_backward


def split_data(config: PretrainConfig, source: Source) -> tuple[ImageSplit, ImageSplit]:
    """The images to train on, and the labelled hold-out (empty where there are no labels)."""
    is_labelled = bool((source.split.labels >= 0).all())
    return split_holdout(source.split, config.data.holdout if is_labelled else 0.0)


def _open_images(
    config: PretrainConfig, train: ImageSplit, source: Source, device: torch.device
) -> ImageStore:
    return open_images(
        train,
        source,
        config.views.preparation,
        residency=config.speed.residency,
        device=device,
        on_bad_image=config.data.on_bad_image,
    )


def _build_loader(
    config: PretrainConfig,
    images: ImageStore,
    sampler: Sampler,
    method: Method,
    device: torch.device,
) -> ViewLoader:
    return ViewLoader(
        images,
        config.views,
        sampler,
        views_per_image=method.views_per_image,
        max_bad=config.data.max_bad,
        labels=sampler.pool.labels if method.needs_labels else None,
        rank=rank(),
        world_size=world_size(),
        device=device,
        channels_last=config.speed.channels_last,
        compiled=config.speed.compile,
    )


def _build_plan(config: PretrainConfig, steps_per_epoch: int) -> Plan:
    return Plan(
        steps_per_epoch=steps_per_epoch,
        epochs=config.epochs,
        warmup_epochs=config.optimizer.warmup_epochs,
        peak_learning_rate=peak_learning_rate(config.optimizer, config.batch_size),
    )


def _build_monitor(
    config: PretrainConfig, train: ImageSplit, holdout: ImageSplit, device: torch.device
) -> Monitor | None:
    if not config.run.monitor_every or not len(holdout):
        return None
    limit = config.run.monitor_images
    return Monitor(
        gallery=limit_images(train, limit),
        holdout=limit_images(holdout, limit),
        views=config.views,
        device=device,
        on_bad_image=config.data.on_bad_image,
    )
