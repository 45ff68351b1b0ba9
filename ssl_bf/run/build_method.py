"""The method of a run with its backbone, at the initial values of the seed."""

from __future__ import annotations

from dataclasses import replace

import torch

from linear_eval.backbones.configs import GivenBackboneConfig
from linear_eval.system.distributed import world_size
from linear_eval.system.errors import InputError
from ssl_bf.config import PretrainConfig
from ssl_bf.health.memory import memory_there
from ssl_bf.methods.classes import Classes
from ssl_bf.methods.method import Method, Start
from ssl_bf.parts.starting_backbone import starting_backbone

SUSPICIOUS = 0.1  # share of the memory


def build_method(config: PretrainConfig, classes: Classes) -> Method:
    """Make the method for images of these classes."""
    backbone, width = starting_backbone(config.backbone, config.seed), config.backbone.width
    start = Start(backbone, width, config.relation, config.seed, classes)
    return config.method.build(start)


def without_init(config: PretrainConfig) -> PretrainConfig:
    """The same without `backbone.init`, whose file need not be there."""
    if isinstance(config.backbone, GivenBackboneConfig):
        return config
    return replace(config, backbone=replace(config.backbone, init=None))


def bytes_needed(config: PretrainConfig, classes: Classes) -> int:
    """Bytes of weights, gradients, optimizer, queues and one batch of views; nothing is allocated.

    Activations and decoded images come on top.

    Raises:
        InputError: the sizes are beyond what a tensor can have.
    """
    method = method_without_memory(config, classes)
    slots = 4 if config.optimizer.name == "adamw" else 3  # weight, gradient, averages
    tensors = sum(
        (slots if p.requires_grad else 1) * p.numel() * p.element_size()
        for p in method.parameters()
    ) + sum(b.numel() * b.element_size() for b in method.buffers())
    images = config.batch_size // world_size()
    others = 0 if config.shards == "auto" else max(0, config.shards // world_size() - 1)
    # of each further shard of this process: gradients, slow copies, buffers
    tensors += others * sum(
        each.numel() * each.element_size() for each in (*method.parameters(), *method.buffers())
    )
    return tensors + method.views_per_image * images * 3 * config.views.size**2 * 4


def method_without_memory(config: PretrainConfig, classes: Classes) -> Method:
    """The method with shapes and no values.

    Raises:
        InputError: see `bytes_needed`.
    """
    advice = "expected a network that fits into memory; lower method.queue_size or a width"
    if max(_sizes(config)) >= 2**63:  # what torch says of these differs from version to version
        raise InputError(
            f"method: a size that no tensor can have ({max(_sizes(config))}), {advice}"
        )
    try:
        with torch.device("meta"):
            method = build_method(without_init(config), classes)
            method.relation.make_room(config.batch_size // world_size(), config.views.size)
            return method
    except RuntimeError as error:
        said = str(error).splitlines()[0]
        raise InputError(f"method: sizes that no tensor can have ({said}), {advice}") from error


def _sizes(config: PretrainConfig) -> list[int]:
    """Whole numbers of the method, and 1."""
    return [1, 1, *(v for v in vars(config.method).values() if isinstance(v, int))]


def _largest_table(config: PretrainConfig) -> int:
    """Bytes of a table as large as the two largest numbers of the method, or of a batch."""
    first, second = sorted(_sizes(config))[-2:]
    return 4 * max(first * second, config.batch_size // world_size() * 6 * config.views.size**2)


def check_room(config: PretrainConfig, classes: Classes, device: torch.device) -> None:
    """Refuse sizes that the device cannot hold, before any of it is allocated.

    Raises:
        InputError: memory needed against memory there.
    """
    there = memory_there(device)
    if _largest_table(config) < SUSPICIOUS * there and not config.relation.keeps_tokens:
        return  # to count exactly takes torch some seconds, for it then loads its meta device
    needed = bytes_needed(config, classes)
    if needed > there:
        raise InputError(
            f"memory: weights, optimizer, queue and a batch need {needed / 2**30:.1f} GiB, the "
            f"{device.type} has {there / 2**30:.1f} GiB; lower batch_size, method.queue_size, "
            "views.size or a hidden width"
        )
