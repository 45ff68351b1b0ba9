"""`ssl-bf verify-resume`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval.commands.subcommand import add_parser
from linear_eval.system.errors import InputError, load_torch

if TYPE_CHECKING:
    from linear_eval.commands.subcommand import Commands

EXAMPLE = """\
example:
  ssl-bf verify-resume quickstart data.train_images=128 batch_size=32 epochs=5 --kills 30

Trains once to the end, and again while it is killed (SIGKILL) at random instants, a third of them
while a checkpoint is written, and goes on each time by run.resume=auto. Compares every tensor,
every logged number and the backbone; exit code 1 where anything differs. On the CPU with one
thread, in a temporary folder. Make the run short: every kill makes it lose some steps.
"""
# A run that can be forked, and saves often.
FIXED = ("run.resume=auto", "speed.device=cpu", "speed.threads=1", "run.tensorboard=false")
SAVE_EVERY = "run.save_every=5steps"  # unless the user says how often


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands,
        "verify-resume",
        says="prove that a killed run goes on to the bit, by killing it",
        example=EXAMPLE,
        if_interrupted="nothing is left; the same command begins again",
    )
    parser.add_argument("config", metavar="CONFIG", help="a YAML file or a packaged name")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for pretrain")
    parser.add_argument("--kills", type=int, default=30, help="how many; default: 30")
    parser.add_argument("--seed", type=int, default=0, help="of the instants; default: 0")
    parser.set_defaults(command=_verify_resume)


def _verify_resume(given: argparse.Namespace) -> None:
    from linear_eval.strict_config.source import read_config_file

    read_config_file(given.config, "pretrain")
    load_torch(if_interrupted=given.if_interrupted)
    verify_resume(given.config, given.overrides, kills=given.kills, seed=given.seed)


def verify_resume(source: str, overrides: Sequence[str], *, kills: int, seed: int) -> None:
    """Kill a run so many times and compare each that got to its end with one never killed.

    Args:
        source: a config file or its packaged name.
        overrides: `key=value` texts.
        kills: >= 1.
        seed: of their instants.

    Raises:
        InputError: the config is wrong.
        RunFailed: anything differs, or a run ends by itself before it is done.
    """
    import torch

    from linear_eval.strict_config.reader import load_config
    from ssl_bf import build, train
    from ssl_bf.commands.pretrain import start
    from ssl_bf.config import PretrainConfig
    from ssl_bf.verify.trial import try_kills

    if kills < 1:
        raise InputError(f"--kills: must be >= 1, got {kills}")
    fixed = [*overrides, *FIXED]
    if not any(text.startswith("run.save_every=") for text in overrides):
        fixed.append(SAVE_EVERY)
    torch.set_num_threads(1)  # a fork has no other threads
    assert build and train  # loaded here, once for all forks

    def command(directory: Path) -> None:
        texts = [*fixed, f"run.directory={directory}"]
        loaded = load_config(PretrainConfig, source, texts, packaged="pretrain")
        start(loaded.value, loaded.notes)

    try_kills(command, kills, seed)
