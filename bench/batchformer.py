"""What BatchFormer adds to a training step. Run: python -m bench.batchformer.

The backbone does the same work with and without it, so on a CPU what follows the backbone is timed
by itself, in turn, with and without the relation: heads, loss, backward, optimizer, slow copies.
The difference is given as a share of the whole step without it. On a GPU that would count launches
which a step hides behind the backbone, so there whole steps are compared, several at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.options import parse
from bench.rounds import append, compare, measure
from bench.step import START
from linear_eval.backbones.architectures import build_backbone
from ssl_bf.choices.allocator import keep_freed_memory
from ssl_bf.keyed_random import StepContext
from ssl_bf.methods import MethodConfig
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.method import Start
from ssl_bf.methods.moco_v2 import MoCoV2Config
from ssl_bf.methods.simsiam import SimSiamConfig
from ssl_bf.optimizers import SgdConfig, build_optimizer
from ssl_bf.relations import RelationConfig
from ssl_bf.relations.batchformer import BatchFormerConfig
from ssl_bf.relations.no_relation import NoRelationConfig

WIDTH = 512  # of ResNet-18
BATCH = {"cpu": 256, "cuda": 1024}
STEPS = {"cpu": 1, "cuda": 10}  # timed together
CASES: list[tuple[int, MethodConfig, Literal["projection", "backbone"]]] = [
    (128, MoCoV2Config(queue_size=4096), "projection"),
    (512, MoCoV2Config(queue_size=4096), "backbone"),
    (2048, SimSiamConfig(), "projection"),
]


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """One table for each width of the relation, and its share of the step."""
    options = parse("BatchFormer's share of a training step.", argv)
    if options.device == "cpu":
        keep_freed_memory()  # as ssl_bf.train does
    on_gpu = options.device == "cuda"
    batch, size = (64, 8) if options.quick else (BATCH[options.device], 32)
    found = []
    for width, config, place in CASES[:1] if options.quick else CASES:
        relation = BatchFormerConfig(insert_at=place)
        torch.manual_seed(0)
        features = torch.randn(2, batch, WIDTH, device=options.device)
        images = torch.randn(2, batch, 3, size, size, device=options.device)
        backbone = build_backbone("resnet18_cifar")
        part, views = (backbone, images) if on_gpu else (nn.Identity(), features)
        steps = 1 if options.quick else STEPS[options.device]
        with_it, without = (
            repeated(step(config, each, copy.deepcopy(part), views), steps)
            for each in (relation, NoRelationConfig())
        )
        facts: dict[str, Any] = {
            "method": config.name,
            "width": width,
            "batch": batch,
            "context": 32,
            "steps": steps,
        }
        compared = "step" if on_gpu else "heads"
        rows = compare(
            "batchformer",
            {f"{compared} with BatchFormer": with_it, f"{compared} without": without},
            check=same_plain_stream,
            options=options,
            facts=facts,
            flop=0.0 if on_gpu else (36.0 * width**2 + 14 * 32 * width) * batch,
        )
        whole = without if on_gpu else step(config, NoRelationConfig(), backbone, images)
        whole()
        seconds = min((measure(whole, options.device)[0] for _ in range(2)), key=lambda s: s.wall)
        shares = {
            clock: (rows[0][f"{clock}_seconds"] - rows[1][f"{clock}_seconds"])
            / getattr(seconds, clock)
            for clock in ("wall", "cpu")
        }
        row: dict[str, Any] = {
            "benchmark": "batchformer share",
            "variant": "ours",
            "wrong": "",
            **facts,
        }
        row |= {f"{clock}_share": round(share, 5) for clock, share in shares.items()}
        row |= {"step_wall_seconds": seconds.wall, "step_cpu_seconds": seconds.cpu}
        print(
            f"{config.name}, C = {width}: {100 * shares['wall']:.2f} % of a step of "
            f"{seconds.wall:.2f} s (CPU time {100 * shares['cpu']:.2f} %)"
        )
        append(options.output / "batchformer.jsonl", [row])
        found += [*rows, row]
    return found


def step(
    config: MethodConfig, relation: RelationConfig, backbone: nn.Module, views: Tensor
) -> Callable[[], Tensor]:
    """A training step in bf16, as ssl_bf.train does it; returns the plain projections."""
    method = config.build(Start(backbone, WIDTH, relation)).to(views.device)
    method = method.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(SgdConfig(), method.parameter_groups())  # learning rate 0
    if views.dim() == 5:  # images
        given = [view.contiguous(memory_format=torch.channels_last) for view in views]
    else:  # features, whose gradient the backbone would need
        given = [view.clone().requires_grad_() for view in views]
    batch = Batch(tuple(given), torch.arange(views.shape[1], device=views.device))

    def run() -> Tensor:
        with torch.autocast(views.device.type, torch.bfloat16):
            loss: Tensor = method(batch, StepContext(step=1))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        method.after_step(START)
        assert method.projections is not None
        return method.projections[0]

    return run


def repeated(run: Callable[[], Tensor], times: int) -> Callable[[], Tensor]:
    """Several runs as one; gives the result of the last."""
    return lambda: [run() for _ in range(times)][-1]


def same_plain_stream(ours: Tensor, theirs: Tensor) -> str:
    """The relation leaves the plain projections as they are, to the bit."""
    return "" if torch.equal(ours, theirs) else "the plain stream is another"


if __name__ == "__main__":
    main()
