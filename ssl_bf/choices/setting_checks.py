"""Checks for settings that do nothing, do harm, or cannot work on this machine."""

from __future__ import annotations

from pathlib import Path

import torch

from linear_eval.backbones.backbone_file import backbone_notes
from linear_eval.backbones.timm_models import is_timm
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.system.distributed import world_size
from linear_eval.system.errors import InputError
from linear_eval.system.printable import one_line
from ssl_bf.config import PretrainConfig
from ssl_bf.methods.method import Method
from ssl_bf.run.environment import compiler_fault
from ssl_bf.samplers.sampler import Sampler
from ssl_bf.trackers import wandb_run


def check_machine(config: PretrainConfig, device: torch.device) -> None:
    """Refuse what is asked for and cannot be had here: a tracker, a captured step, a compiler.

    Raises:
        InputError: naming the key.
    """
    check_trackers(config)
    check_cuda_graph(config, device)
    check_compiler(config, device)


def check_cuda_graph(config: PretrainConfig, device: torch.device) -> None:
    """Refuse `speed.cuda_graph` where the step cannot be captured.

    Raises:
        InputError: it is asked for without a GPU, with several processes or with `accumulate`.
    """
    if not config.speed.cuda_graph:
        return
    for is_met, needed, instead in (
        (device.type == "cuda", "a GPU", f"this run has a {device.type.upper()}"),
        (world_size() == 1, "one process", f"there are {world_size()}"),
        (config.accumulate == 1, "the whole batch at once", f"accumulate is {config.accumulate}"),
    ):
        if not is_met:
            raise InputError(
                f"speed.cuda_graph: needs {needed}, {instead}; set speed.cuda_graph=false"
            )


def check_trackers(config: PretrainConfig) -> None:
    """Refuse a tracker that was asked for and cannot be had; TensorBoard is done without.

    Raises:
        InputError: the package wandb is not installed.
    """
    if config.run.wandb != "off" and not wandb_run.is_installed():
        raise InputError(
            f"run.wandb: {config.run.wandb} needs the package wandb, which is not installed; "
            "pip install 'ssl-bf[wandb]', or set run.wandb=off"
        )


def check_captured(config: PretrainConfig, method: Method) -> None:
    """Refuse `speed.cuda_graph` where steps differ: a graph repeats one.

    Raises:
        InputError: stream 1 exists in part of the training only, or the method changes on the way.
    """
    if config.speed.cuda_graph and not method.relation.is_always_active:
        raise InputError(
            "speed.cuda_graph: needs relation.active=[0, 1], because a graph repeats one step; set "
            "one of the two"
        )
    if config.speed.cuda_graph and (keys := method.changing_keys()):
        raise InputError(
            f"speed.cuda_graph: repeats one step, and {', '.join(keys)} changes it on the way; set "
            "speed.cuda_graph=false, or leave the key out"
        )


def check_compiler(config: PretrainConfig, device: torch.device) -> None:
    """Try `speed.compile` on something small, before the run begins.

    Raises:
        InputError: it is asked for and does not work here.
    """
    fault = compiler_fault(device) if config.speed.compile else None
    if fault is not None:
        raise InputError(
            f"speed.compile: torch.compile does not work here ({fault}); install what it misses "
            "(a C++ compiler on CPUs, Triton on GPUs) or set speed.compile=false"
        )


def check_whole_backbone(config: PretrainConfig, method: Method) -> None:
    """Refuse what needs a backbone that runs as a whole, where a relation acts inside it.

    Raises:
        InputError: naming the key.
    """
    for is_met, asked, instead in (
        (config.accumulate == 1, f"accumulate: is {config.accumulate}", "accumulate=1"),
        (not config.speed.compile, "speed.compile: is on", "speed.compile=false"),
    ):
        if method.relation.is_inside and not is_met:
            raise InputError(
                f"{asked}, but with relation.insert_at=tokens the images of a batch meet inside "
                f"the backbone, which runs stage by stage; set {instead}, or another relation"
            )


def check_labels(config: PretrainConfig, method: Method, train: ImageSplit) -> None:
    """Refuse images without labels, or of one class, where the method needs labels.

    Raises:
        InputError: naming `data`; or the relation that wants labels of a method without them.
    """
    if not method.needs_labels:
        if method.relation.needs_labels:
            raise InputError(
                f"relation.graph: label takes labels, and method.name={config.method.name} trains "
                "without them; set relation.graph=none, teacher_knn or cluster, or a method with "
                "labels (metric)"
            )
        return
    if bool((train.labels < 0).any()):
        raise InputError(
            f"data: the images of {config.data.name} have no labels, which method.name="
            f"{config.method.name} needs, expected a data set with classes (a folder per class "
            "below train/); choose one, or another method"
        )
    if len(train.labels.unique()) < 2:
        only = train.class_names[int(train.labels[0])]
        raise InputError(
            f"data: all {len(train)} training images are of one class ('{one_line(only)}'), "
            f"expected at least two, which method.name={config.method.name} tells apart; "
            "choose a data set with more classes, or another method"
        )


def check_sampler(config: PretrainConfig, method: Method, sampler: Sampler) -> None:
    """Refuse batches in which two images of a class may be missing, where the loss compares them.

    Raises:
        InputError: naming `sampler`.
    """
    if method.needs_pairs and (sampler.images_per_class or 0) < 2:
        raise InputError(
            f"sampler.name: {config.sampler.name} leaves it to chance whether a batch holds two "
            f"images of a class, which this method.name={config.method.name} compares; set "
            "sampler.name=class_balanced and sampler.images_per_class to 2 or more"
        )


def setting_notes(config: PretrainConfig, device: torch.device) -> list[str]:
    """Log lines on settings that do nothing or harm here."""
    notes, views = [], config.views
    if config.backbone.init is not None and not is_timm(config.backbone.init):
        notes += backbone_notes(Path(config.backbone.init))
    if config.backbone.init is None and config.backbone.frozen_stages:
        notes.append(
            f"warning: backbone.frozen_stages={config.backbone.frozen_stages} keeps random values; "
            "set backbone.init=FILE, or frozen_stages to 0"
        )
    if views.short_side is not None and views.short_side < views.size:
        notes.append(
            f"warning: views.short_side={views.short_side} is less than views.size={views.size}: "
            f"even whole images are enlarged; set views.short_side to {views.size} or more"
        )
    if config.speed.compile and device.type == "cpu":
        notes.append("warning: speed.compile is slower than none on a CPU; leave it off there")
    return notes
