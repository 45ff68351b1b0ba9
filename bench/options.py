"""The command line that all benchmarks share."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from bench.rounds import RESULTS


def parse(
    description: str, argv: list[str] | None = None, *, rounds: int = 7
) -> argparse.Namespace:
    """`quick`, `rounds`, `device`, `threads` (set in torch and faiss) and `output`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all?")
    parser.add_argument("--rounds", type=int, default=rounds, help="of all variants in turn")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=0, help="0: as torch finds them")
    parser.add_argument("--epochs", type=int, default=0, help="of the probe; 0: its own number")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for JSON lines")
    options = parser.parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    return options
