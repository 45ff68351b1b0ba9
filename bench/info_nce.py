"""InfoNCE against a long queue: ours, and a table of all similarities.

Run: python -m bench.info_nce.

Loss and gradient of 256 queries with 65,536 queued keys, older keys of the same image left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bench.memory import PeakMemory
from bench.options import parse
from bench.rounds import append, compare
from ssl_bf.losses.info_nce import Negatives, info_nce

TEMPERATURE = 0.2
Result = tuple[Tensor, Tensor]  # loss and gradient


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Compare time, then (on the CPU) the memory of one run each."""
    options = parse("InfoNCE against a long queue.", argv)
    rows, size, width = (16, 512, 8) if options.quick else (256, 65_536, 128)
    generator = torch.Generator().manual_seed(0)
    query, key, queued = (
        functional.normalize(torch.randn(n, width, generator=generator)).to(options.device)
        for n in (rows, rows, size)
    )
    ids = torch.randint(50_000, (size,), generator=generator).to(options.device)
    query_ids = torch.arange(rows, device=options.device)

    def ours(q: Tensor) -> Tensor:
        return info_nce(q, key, [Negatives(queued, ids, query_ids)], TEMPERATURE)

    def table(q: Tensor) -> Tensor:
        q = functional.normalize(q)
        similar = (q @ queued.T).masked_fill(query_ids[:, None] == ids, -torch.inf)
        logits = torch.cat([(q * key).sum(dim=1, keepdim=True), similar], dim=1) / TEMPERATURE
        return functional.cross_entropy(logits, torch.zeros_like(query_ids))

    variants = {
        "ours": with_gradient(ours, query),
        "table, cross_entropy": with_gradient(table, query),
    }
    facts = {"queries": rows, "queue": size, "width": width}
    found = compare(
        "info_nce",
        variants,
        check=same_gradient,
        options=options,
        facts=facts,
        flop=4.0 * rows * size * width,
    )
    if options.device == "cpu":
        found += [peak(name, run, facts) for name, run in variants.items()]
        append(options.output / "info_nce.jsonl", found[2:])
    return found


def with_gradient(loss: Callable[[Tensor], Tensor], query: Tensor) -> Callable[[], Result]:
    """Forward and backward."""

    def run() -> Result:
        leaf = query.clone().requires_grad_()
        value = loss(leaf)
        (gradient,) = torch.autograd.grad(value, leaf)
        return value.detach(), gradient

    return run


def peak(name: str, run: Callable[[], Result], facts: dict[str, int]) -> dict[str, Any]:
    """Anonymous memory of one run above that before it."""
    with PeakMemory() as memory:
        run()
    print(f"{name:32} peak {memory.mib:.0f} MiB")
    mib = round(memory.mib, 1)
    return {"benchmark": "info_nce memory", "variant": name, "peak_mib": mib, "wrong": "", **facts}


def same_gradient(ours: Result, theirs: Result) -> str:
    """Within float32's rounding."""
    loss = float((ours[0] - theirs[0]).abs())
    gradient = float((ours[1] - theirs[1]).norm() / theirs[1].norm())
    if loss < 1e-4 and gradient < 1e-4:
        return ""
    return f"loss differs by {loss:.1e}, gradient by {gradient:.1e}"


if __name__ == "__main__":
    main()
