"""Advice to whoever sees a run end: what is left, and what goes on with it."""

from pathlib import Path

from linear_eval.system.distributed import world_size
from ssl_bf.run.checkpoint import published_steps


def start_command() -> str:
    """What starts as many processes as this run has."""
    if world_size() == 1:
        return "ssl-bf"
    return f"torchrun --nproc-per-node {world_size()} -m ssl_bf"


def what_is_left(directory: Path) -> str:
    """Behind the line that tells of an end at once; any process may say it."""
    saved = published_steps(directory)
    if not saved:
        return "; nothing was saved"
    return f"; saved up to step {saved[0]}, go on with: {start_command()} resume {directory}"
