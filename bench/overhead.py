"""What a step costs beside the network: optimizer, slow copies, queue, meters.

Run: python -m bench.overhead. 161 small tensors (as many as ResNet-50 has), so that the host's own
work shows. The peer is the recipe published with MoCo v2 and v3, written anew: a loop over
parameters for LARS and for the average, a queue that is cloned and whose pointer the host reads,
and meters that read the loss.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.options import parse
from bench.rounds import compare
from ssl_bf.optimizers import LarsConfig, ParameterGroup, build_optimizer
from ssl_bf.parts.key_queue import KeyQueue
from ssl_bf.parts.slow_copy import SlowCopies

STEPS = 20
RATE, DECAY, TRUST, MOMENTUM, SLOW = 0.1, 1e-6, 0.001, 0.9, 0.99
ROWS, KEYS, WIDTH = 16, 256, 8


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Compare the parameters after the same gradients."""
    options = parse("Host overhead of a step against the published loops.", argv)
    matrices, vectors = (5, 10) if options.quick else (53, 108)
    torch.manual_seed(0)
    network = nn.ParameterList(
        [torch.randn(8, 8, 3, 3) for _ in range(matrices)] + [torch.randn(8)] * vectors
    ).to(options.device)
    gradients = [torch.randn_like(p) for p in network]
    queue = KeyQueue(KEYS, WIDTH).to(options.device)
    keys = nn.functional.normalize(torch.randn(ROWS, WIDTH)).to(options.device)
    loss = torch.ones((), device=options.device)
    return compare(
        "overhead",
        {
            "ours": our_steps(with_gradients(network, gradients), copy.deepcopy(queue), keys, loss),
            "published loops": published_steps(
                with_gradients(network, gradients), queue.keys, keys, loss
            ),
        },
        check=same_parameters,
        options=options,
        facts={"steps": STEPS, "tensors": matrices + vectors, "optimizer": "lars"},
        flop=1.0,
    )


def with_gradients(network: nn.ParameterList, gradients: list[Tensor]) -> nn.ParameterList:
    """A copy that every step finds the same gradients in."""
    network = copy.deepcopy(network)
    for p, gradient in zip(network, gradients, strict=True):
        p.grad = gradient
    return network


def our_steps(
    network: nn.ParameterList, queue: KeyQueue, keys: Tensor, loss: Tensor
) -> Callable[[], list[Tensor]]:
    """Parameters, slow copies and queue after more steps."""
    slow = copy.deepcopy(network).requires_grad_(False)
    named = [(str(number), p) for number, p in enumerate(network)]
    config = LarsConfig(momentum=MOMENTUM, weight_decay=DECAY, trust_coefficient=TRUST)
    optimizer = build_optimizer(config, [ParameterGroup("all", named)])
    for group in optimizer.param_groups:
        group["lr"] = RATE
    slow_copies = SlowCopies([(slow, network)])
    watched: list[Tensor] = []
    images = torch.arange(len(keys), device=keys.device)
    changed = [*network, *slow, queue.keys]

    def steps() -> list[Tensor]:
        for _ in range(STEPS):
            optimizer.step()
            queue.push(keys, images)
            slow_copies.move(SLOW)
            watched.append(loss.detach())
        torch.stack(watched).tolist()  # once a logged line
        watched.clear()
        return changed

    return steps


def published_steps(
    network: nn.ParameterList, queue: Tensor, keys: Tensor, loss: Tensor
) -> Callable[[], list[Tensor]]:
    """The same by loops; the queue lies on its side, (width, keys)."""
    slow = copy.deepcopy(network).requires_grad_(False)
    buffers = [torch.zeros_like(p) for p in network]
    queue, pointer = queue.T.contiguous(), torch.zeros(1, dtype=torch.long, device=queue.device)
    total = 0.0
    changed = [*network, *slow, queue.T]

    @torch.no_grad()
    def steps() -> list[Tensor]:
        nonlocal total
        for _ in range(STEPS):
            lars_loop(network, buffers)
            queue.clone()  # what the logits of the step are taken against
            first = int(pointer)
            queue[:, first : first + len(keys)] = keys.T
            pointer[0] = (first + len(keys)) % queue.shape[1]
            for p, q in zip(slow, network, strict=True):
                p.data = p.data * SLOW + q.data * (1 - SLOW)
            total += loss.item()
        return changed

    return steps


def lars_loop(network: nn.ParameterList, buffers: list[Tensor], rate: float = RATE) -> None:
    """LARS, a parameter at a time; 1-D parameters have neither decay nor trust ratio."""
    for p, buffer in zip(network, buffers, strict=True):
        update = p.grad
        assert update is not None
        if p.ndim > 1:
            update = update.add(p, alpha=DECAY)
            size, change = torch.norm(p), torch.norm(update)
            one = torch.ones_like(size)
            ratio = torch.where(change > 0, TRUST * size / change, one)
            update = update.mul(torch.where(size > 0, ratio, one))
        buffer.mul_(MOMENTUM).add_(update)
        p.add_(buffer, alpha=-rate)


def same_parameters(ours: list[Tensor], theirs: list[Tensor]) -> str:
    """Equal but for rounding."""
    worst = max(
        float((a - b).detach().abs().max() / b.detach().abs().max())
        for a, b in zip(ours, theirs, strict=True)
    )
    return "" if worst < 1e-4 else f"differ by {worst:.1e}"


if __name__ == "__main__":
    main()
