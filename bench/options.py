"""The command line that all benchmarks share."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from bench.rounds import RESULTS


def parse(
    description: str, argv: list[str] | None = None, *, rounds: int = 7
) -> argparse.Namespace:
    """`quick`, `rounds`, `device`, `threads` (set in torch and faiss), `output` and others."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all?")
    parser.add_argument("--rounds", type=int, default=rounds, help="of all variants in turn")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=0, help="0: as torch finds them")
    parser.add_argument("--epochs", type=int, default=0, help="of a fit or run; 0: its own number")
    parser.add_argument("--data", help="a folder with CIFAR-10; without it images are made up")
    parser.add_argument("--seed", type=int, default=0, help="of the first round, where they differ")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for JSON lines")
    options = parser.parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    return options


def lacks_gpu(options: argparse.Namespace) -> bool:
    """Whether a row for one GPU is to be skipped here, which is said; `--quick` runs anywhere."""
    if options.quick or options.device == "cuda":
        return False
    print("skipped: a row for one GPU, add --device cuda (--quick: small sizes on the CPU)")
    return True
