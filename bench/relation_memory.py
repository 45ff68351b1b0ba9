"""Memory of BatchFormerV2's attention: L x N x g x heads. Run: python -m bench.relation_memory.

Peak anonymous memory of forward and backward of the module alone, on the tokens of `vit_micro`, in
a process for each context and dropout. With dropout the framework writes the attention out; the
table of weights, its mask and its product are kept for the backward pass. Without, it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch

from bench.memory import PeakMemory
from bench.options import parse
from bench.own_process import OwnProcess
from bench.rounds import append, machine
from ssl_bf.relations.batchformer_v2 import BatchFormerV2Config, BatchTransformerOfTokens

TOKENS, WIDTH, HEADS, BATCH = 65, 128, 4, 256
Context = int | Literal["local"]


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """A row for each context, with dropout and without."""
    options = parse("Peak memory of BatchFormerV2's attention.", argv, rounds=3)
    batch = 64 if options.quick else BATCH
    contexts: tuple[Context, ...] = (2, 32, "local")
    found: list[dict[str, Any]] = []
    for dropout in (0.5, 0.0):
        for context in contexts:
            process = OwnProcess(peak, batch, context, dropout)
            mib = max(process().result for _ in range(options.rounds))
            group = batch if context == "local" else context
            row = {
                "benchmark": "relation_memory",
                "variant": f"context {context}, dropout {dropout}",
                "batch": batch,
                "tokens": TOKENS,
                "width": WIDTH,
                "heads": HEADS,
                "one_table_mib": round(4 * HEADS * TOKENS * batch * group / 2**20, 1),
                "peak_anonymous_mib": round(mib, 1),
                "wrong": "",
                **machine("cpu"),
            }
            base = row if context == 2 else found[-1 - contexts.index(context) + 1]
            row["above_groups_of_2_mib"] = round(mib - base["peak_anonymous_mib"], 1)
            print(
                f"{row['variant']:28} one table {row['one_table_mib']:7.1f} MiB, peak "
                f"{mib:7.1f}, above groups of 2 {row['above_groups_of_2_mib']:7.1f}"
            )
            found.append(row)
    append(options.output / "relation_memory.jsonl", found)
    return found


def peak(batch: int, context: Context, dropout: float) -> Callable[[], float]:
    """For a process of its own: MiB above the start, of one forward and backward pass."""
    torch.set_num_threads(1)
    config = BatchFormerV2Config(heads=HEADS, context=context, dropout=dropout)
    module = BatchTransformerOfTokens(config, [WIDTH], kept=0)
    small = torch.randn(4, TOKENS, WIDTH)  # loads what is loaded late
    small_group = BatchTransformerOfTokens(
        BatchFormerV2Config(heads=HEADS, context="local", dropout=dropout), [WIDTH], kept=0
    )
    torch.autograd.backward(small_group(small, None, 0, dropout=True).sum())
    tokens = torch.randn(batch, TOKENS, WIDTH).requires_grad_()

    def run() -> float:
        tokens.grad = None
        module.zero_grad()
        with PeakMemory() as memory:
            torch.autograd.backward(module(tokens, None, 0, dropout=True).square().sum())
        return memory.mib

    return run


if __name__ == "__main__":
    main()
