"""One MoCo-v3 step, ResNet-50, 224 px: ours and the published recipe.

Run: python -m bench.moco_v3_step --device cuda.
The peer is the step as its paper and configuration describe it, written anew: mixed precision,
ordinary memory format, a query encoder with predictor and a slow one, table of similarities and
cross-entropy, the average and LARS as loops over parameters, a loss that the host reads. Where the
published run used float16 with a gradient scaler it computes in bfloat16, as fast and without the
scaler's work. Both start from the same weights and have learning rate 0, so that every step
computes the same loss and gradient, which are compared.

Source: Chen, Xie & He 2021 (arXiv 2104.02057), algorithm 1 and section 4.
"""

from __future__ import annotations

import copy
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from bench.options import lacks_gpu, parse
from bench.overhead import lars_loop
from bench.rounds import compare, show_images_per_second
from bench.step import BF16, START, Stepped, difference, gradients_of
from linear_eval.backbones.architectures import build_backbone, feature_dim
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.method import Start
from ssl_bf.methods.moco_v3 import MoCoV3, MoCoV3Config
from ssl_bf.optimizers import LarsConfig, build_optimizer

MOMENTUM, TEMPERATURE = 0.99, 1.0
STEPS = 10  # timed together


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Compare ours, plain and compiled, with the published step; both in bfloat16."""
    options = parse("A MoCo-v3 training step against the published recipe.", argv, rounds=3)
    if lacks_gpu(options):
        return []
    method, views = start(options)
    steps, batch = 1 if options.quick else STEPS, views.shape[1]
    with FlopCounterMode(display=False) as counter:
        published = published_steps(copy.deepcopy(method), views, 1)
        published()
    variants = {"ours": our_steps(copy.deepcopy(method), views, steps)}
    if not options.quick:
        compiled = copy.deepcopy(method)
        compiled.compile_backbones()
        compiled.backward_per_view = True  # half the activations
        variants["ours, compiled, a view at a time"] = our_steps(compiled, views, steps)
    variants["published recipe"] = published_steps(method, views, steps)
    rows = compare(
        "moco_v3_step",
        variants,
        check=lambda ours, theirs: difference(ours, theirs, BF16),
        options=options,
        facts={"batch": batch, "image": views.shape[-1], "steps": steps},
        flop=float(steps * counter.get_total_flops()),
    )
    show_images_per_second(rows, steps * batch)
    return rows


def start(options: Namespace) -> tuple[MoCoV3, Tensor]:
    """Weights, and views (2, batch, 3, size, size)."""
    batch, size = (8, 32) if options.quick else (512, 224)
    architecture = "resnet18_cifar" if options.quick else "resnet50"
    config = MoCoV3Config(
        temperature=TEMPERATURE, momentum=MOMENTUM, hidden_dim=64 if options.quick else 4096
    )
    torch.manual_seed(0)
    blots = F.interpolate(torch.randn(batch, 3, 4, 4), size)
    views = (blots + 0.3 * torch.randn(2, batch, 3, size, size)).to(options.device)
    width = feature_dim(architecture)
    method = config.build(Start(build_backbone(architecture), width))
    for slow, _ in method.slow_pairs():  # other weights, as after some training
        for p in slow.parameters():
            if p.ndim > 1:
                p.add_(0.5 * p.std() * torch.randn_like(p))
    return method.to(options.device), views


def our_steps(method: MoCoV3, views: Tensor, steps: int) -> Callable[[], Stepped]:
    """As ssl_bf.train does them, channels last."""
    method = method.to(memory_format=torch.channels_last)
    channels_last = [view.contiguous(memory_format=torch.channels_last) for view in views]
    batch = Batch(tuple(channels_last), torch.arange(len(views[0]), device=views.device))
    optimizer = build_optimizer(LarsConfig(), method.parameter_groups())

    def run() -> Stepped:
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast(views.device.type, torch.bfloat16):
                loss: Tensor = method(batch)
            torch.autograd.backward(loss)
            optimizer.step()
            method.after_step(START)
        return Stepped("bf16", loss.detach(), gradients_of(method))

    return run


def published_steps(method: MoCoV3, views: Tensor, steps: int) -> Callable[[], Stepped]:
    """The modules of `method`, trained as published."""
    encoder = nn.Sequential(method.backbone, method.projector)
    slow = nn.Sequential(method.slow_backbone, method.slow_projector)
    predictor = method.predictor
    trained = nn.ParameterList([*encoder.parameters(), *predictor.parameters()])
    buffers = [torch.zeros_like(p) for p in trained]

    def contrast(queries: Tensor, keys: Tensor) -> Tensor:
        queries, keys = F.normalize(queries, dim=1), F.normalize(keys, dim=1)
        logits = queries @ keys.T / TEMPERATURE
        own = torch.arange(len(logits), device=logits.device)
        return 2 * TEMPERATURE * F.cross_entropy(logits, own)

    def step() -> Tensor:
        with torch.autocast(views.device.type, torch.bfloat16):
            queries = [predictor(encoder(view)) for view in views]
            with torch.no_grad():
                for p, q in zip(slow.parameters(), encoder.parameters(), strict=True):
                    p.data = p.data * MOMENTUM + q.data * (1 - MOMENTUM)
                keys = [slow(view) for view in views]
            loss = contrast(queries[0], keys[1]) + contrast(queries[1], keys[0])
        for p in trained:
            p.grad = None
        torch.autograd.backward(loss)
        with torch.no_grad():
            lars_loop(trained, buffers, rate=0.0)
        return loss.detach()

    def run() -> Stepped:
        for _ in range(steps):
            loss = step()
            loss.item()  # into a meter
        return Stepped("bf16", loss, gradients_of(method))

    return run


if __name__ == "__main__":
    main()
