"""`ssl-bf replay`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval.commands.subcommand import add_parser
from linear_eval.system.errors import InputError, RunFailed, load_torch

if TYPE_CHECKING:
    from linear_eval.commands.subcommand import Commands

EXAMPLE = """\
example:
  ssl-bf replay runs/mine/captured/step-000000812.safetensors

Needs no data. Exit code 1: the step came out otherwise than in its run.
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands,
        "replay",
        says="make a captured step again, and say where it went wrong",
        example=EXAMPLE,
        if_interrupted="nothing was written",
    )
    parser.add_argument("file", type=Path, help="that a run wrote to captured/")
    parser.set_defaults(command=_replay)


def _replay(given: argparse.Namespace) -> None:
    if not given.file.is_file():
        raise InputError(
            f"{given.file}: no such file, expected a captured step; give RUN/captured/*"
        )
    load_torch(if_interrupted=given.if_interrupted)
    replay_step(given.file)


def replay_step(path: Path) -> None:
    """Print what came of a captured step.

    Raises:
        RunFailed: it came out otherwise than in its run.
    """
    import torch

    from ssl_bf.verify.replay import replay

    done = replay(path)
    facts = done.facts
    print(f"step {facts.step + 1}, captured because: {facts.reason}")
    print(f"loss {done.loss:.6g}, {facts.precision}, {facts.threads} thread(s), {facts.device}")
    print(f"first went wrong: {done.first_wrong or 'nowhere, every number is finite'}")
    if facts.shards > 1:
        print(f"{facts.shards} shards, of {facts.processes} process(es) then and one now")
    if done.is_same:
        print("repeated bit for bit: loss, weights and optimizer")
    elif done.is_close and not done.promises_bits:
        print(
            f"repeated up to rounding: loss ({float.fromhex(facts.loss):.6g} then), and how far "
            "weights, optimizer and the rest moved; processes add in an order of their own, and "
            "speed.reduction=ordered keeps the bits"
        )
    else:
        raise RunFailed(
            f"{path}: came out otherwise than in its run (loss {float.fromhex(facts.loss):.6g}), "
            f"expected the same bits on the same processor, torch {facts.torch} (here "
            f"{torch.__version__}) and {facts.threads} thread(s); replay it where it ran"
        )
