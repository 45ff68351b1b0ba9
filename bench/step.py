"""One training step of MoCo-v2, ResNet-18 for 32 px: ours and lightly's. Run: python -m bench.step.

Both start from the same weights, see the same views and the same queue, and have learning rate 0,
so that every round computes the same loss and gradient, which are compared. Ours runs in processes
of its own, which keep freed memory as `ssl-bf pretrain` does on a CPU; lightly's runs as shipped.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bench.lightly_moco import LightlyMoCo
from bench.options import parse
from bench.own_process import OwnProcess
from bench.rounds import compare
from linear_eval.backbones.architectures import build_backbone
from ssl_bf.choices.allocator import keep_freed_memory
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.method import Start
from ssl_bf.methods.moco_v2 import MoCoV2, MoCoV2Config
from ssl_bf.optimizers import SgdConfig, build_optimizer
from ssl_bf.schedules import Elapsed

GFLOP_PER_IMAGE = 4.44  # forward and backward of the query, forward of the key
WIDTH, MOMENTUM, TEMPERATURE = 512, 0.99, 0.2
START = Elapsed(0.0, 1)  # of a run, where the momentum is the one configured
# Largest relative difference of the loss and, in norm, of the gradient: before any training all
# images look alike to the network, so the gradient hangs on the last digits of either precision.
FLOAT32, BF16 = (1e-4, 1e-2), (2e-2, 0.4)


class Stepped(NamedTuple):
    """What a step computed."""

    precision: str
    loss: Tensor
    gradients: list[Tensor]


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Compare ours in both precisions with lightly's modules as shipped."""
    options = parse("A MoCo-v2 training step against lightly's modules.", argv, rounds=3)
    method, views = start(options)
    batch, size = views.shape[1], views.shape[-1]
    return compare(
        "step",
        {
            "ours, bf16": OwnProcess(our_step, options, "bf16", device=options.device),
            "ours, float32": OwnProcess(our_step, options, "float32", device=options.device),
            "lightly, float32 as shipped": lightly_step(method, views),
        },
        check=same_steps(options.device),
        options=options,
        facts={
            "method": "moco_v2",
            "batch": batch,
            "image": size,
            "queue": len(method.queue(0).keys),
        },
        flop=GFLOP_PER_IMAGE * 1e9 * batch * (size / 32) ** 2,
    )


def start(options: Namespace) -> tuple[MoCoV2, Tensor]:
    """The same weights, queue and views (2, batch, 3, size, size) in every process."""
    batch, size, queue_size = (16, 32, 64) if options.quick else (64, 32, 4096)
    torch.manual_seed(0)
    blots = nn.functional.interpolate(torch.randn(batch, 3, 4, 4), size)
    views = (blots + 0.3 * torch.randn(2, batch, 3, size, size)).to(options.device)
    config = MoCoV2Config(
        queue_size=queue_size, temperature=TEMPERATURE, momentum=MOMENTUM, mask_same_image=False
    )
    method = config.build(Start(build_backbone("resnet18_cifar"), WIDTH))
    return method.to(options.device), views


def our_step(options: Namespace, precision: str) -> Callable[[], Stepped]:
    """As ssl_bf.train does it, channels last; for a process of its own."""
    if options.device == "cpu":
        keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    method, views = start(options)
    method = method.to(memory_format=torch.channels_last)
    channels_last = [view.contiguous(memory_format=torch.channels_last) for view in views]
    batch = Batch(tuple(channels_last), torch.arange(len(views[0]), device=views.device))
    optimizer = build_optimizer(SgdConfig(), method.parameter_groups())

    def step() -> Stepped:
        with torch.autocast(views.device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss: Tensor = method(batch)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        method.after_step(START)
        return Stepped(precision, loss.detach(), gradients_of(method))

    return step


def lightly_step(method: MoCoV2, views: Tensor) -> Callable[[], Stepped]:
    """Modules of lightly with the weights of ours."""
    theirs = LightlyMoCo(method, "resnet18_cifar", weight_decay=1e-4)

    def step() -> Stepped:
        loss = theirs.step(views[0], views[1])
        return Stepped("float32", loss, gradients_of(theirs.network))

    return step


def gradients_of(module: nn.Module) -> list[Tensor]:
    """Of the parameters that train, in order."""
    return [p.grad for p in module.parameters() if p.grad is not None]


def same_steps(device: str) -> Callable[[Stepped, Stepped], str]:
    """A check of the first against each, and of those in float32 against one another."""
    in_float32: list[Stepped] = []
    tolerance = float32_tolerance(device)

    def check(first: Stepped, other: Stepped) -> str:
        if other.precision != "float32":
            return difference(first, other, BF16)
        in_float32.append(other)
        return difference(first, other, BF16) or difference(in_float32[0], other, tolerance)

    return check


def float32_tolerance(device: str) -> tuple[float, float]:
    """A GPU's convolutions multiply in TF32 as torch is shipped, hardly finer than bfloat16."""
    return FLOAT32 if device == "cpu" else BF16


def difference(a: Stepped, b: Stepped, tolerance: tuple[float, float]) -> str:
    """What is too far apart, or nothing."""
    loss = abs(float(a.loss) / float(b.loss) - 1)
    pairs = list(zip(a.gradients, b.gradients, strict=True))
    apart = torch.stack([(x.to(y) - y).norm() for x, y in pairs]).norm()
    gradient = float(apart / torch.stack([y.norm() for _, y in pairs]).norm())
    if loss <= tolerance[0] and gradient <= tolerance[1]:
        return ""
    return f"loss differs by {loss:.1e}, gradient by {gradient:.1e}"


if __name__ == "__main__":
    main()
