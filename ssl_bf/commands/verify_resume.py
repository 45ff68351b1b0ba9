"""`ssl-bf verify-resume`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval.commands.subcommand import add_parser
from linear_eval.system.errors import InputError, load_torch
from ssl_bf.commands import before_torch

if TYPE_CHECKING:
    from linear_eval.commands.subcommand import Commands
    from linear_eval.strict_config.reader import LoadedConfig
    from ssl_bf.config import PretrainConfig

EXAMPLE = """\
example:
  ssl-bf verify-resume quickstart data.train_images=128 batch_size=32 epochs=5 --kills 30
  ssl-bf verify-resume quickstart data.train_images=128 batch_size=32 epochs=9 \\
      relation.context=8 --walk 1,2,4,1

Trains once to the end, and again while it is killed (SIGKILL) at random instants, a third of them
while a checkpoint is written, and goes on each time by run.resume=auto. Compares every tensor,
every logged number and the backbone; exit code 1 where anything differs. On the CPU with one
thread, in a temporary folder. Make the run short: every kill makes it lose some steps.

With --walk it is not killed: it is stopped once it has saved, and goes on with the next of these
numbers of processes, the last to the end. Batches are cut into the least number of shards that all
of these divide, with speed.reduction=ordered; groups of relation.context must fit into a shard.
"""
# A run that can be forked, and saves often.
FIXED = ("run.resume=auto", "speed.device=cpu", "speed.threads=1", "run.tensorboard=false")
SAVE_EVERY = "run.save_every=5steps"  # unless the user says how often
KILLS = 30


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
    parser.add_argument("--kills", type=int, help=f"how many; default: {KILLS}")
    parser.add_argument("--seed", type=int, default=0, help="of the instants; default: 0")
    parser.add_argument("--walk", metavar="1,2,4", help="numbers of processes, instead of kills")
    parser.set_defaults(command=_verify_resume)


def _verify_resume(given: argparse.Namespace) -> None:
    before_torch.check_config(given.config, [*given.overrides, *FIXED, "run.directory=???"])
    load_torch(if_interrupted=given.if_interrupted)
    if given.walk is None:
        kills = KILLS if given.kills is None else given.kills
        verify_resume(given.config, given.overrides, kills=kills, seed=given.seed)
        return
    if given.kills is not None:
        raise InputError("--walk: comes instead of --kills; leave one of them out")
    verify_walk(given.config, given.overrides, sizes=read_walk(given.walk))


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
    from ssl_bf.verify.trial import try_kills

    if kills < 1:
        raise InputError(f"--kills: must be >= 1, got {kills}")
    try_kills(_command(source, overrides), kills, seed)


def verify_walk(source: str, overrides: Sequence[str], *, sizes: Sequence[int]) -> None:
    """Let a run go on with other numbers of processes, and compare it with one on one process.

    Args:
        source: a config file or its packaged name.
        overrides: `key=value` texts.
        sizes: numbers of processes, each >= 1.

    Raises:
        InputError: the config is wrong, or they do not divide its shards.
        RunFailed: anything differs, or a run ends by itself before it is done.
    """
    from ssl_bf.verify.walk import try_walk

    least = math.lcm(*sizes)
    defaults = {"shards": f"shards={least}", "speed.reduction": "speed.reduction=ordered"}
    given = {text.partition("=")[0] for text in overrides}
    texts = [*overrides, *(text for key, text in defaults.items() if key not in given)]
    command = _command(source, texts)
    shards = _loaded(source, texts, Path("run")).value.shards
    if shards == "auto" or shards % least:
        raise InputError(
            f"--walk: its numbers of processes do not all divide {shards} shards; set shards="
            f"{least}, or leave it out"
        )
    try_walk(command, sizes)


def read_walk(text: str) -> list[int]:
    """Numbers of processes, such as `1,2,4`.

    Raises:
        InputError: there are fewer than two, or one is no number from 1 to 64.
    """
    words = text.split(",")
    is_good = all(word.isascii() and word.isdigit() and 1 <= int(word) <= 64 for word in words)
    if not is_good or len(words) < 2:
        raise InputError(
            f"--walk: {text!r}, expected two or more numbers of processes, such as 1,2,4"
        )
    return [int(word) for word in words]


def _command(source: str, overrides: Sequence[str]) -> Callable[[Path], None]:
    """What trains in a directory, or goes on there; all it needs is loaded."""
    import torch

    from ssl_bf import build, train
    from ssl_bf.commands.pretrain import start

    fixed = [*overrides, *FIXED]
    if not any(text.startswith("run.save_every=") for text in overrides):
        fixed.append(SAVE_EVERY)
    torch.set_num_threads(1)  # a fork has no other threads
    assert build and train  # loaded here, once for all forks

    def command(directory: Path) -> None:
        loaded = _loaded(source, fixed, directory)
        start(loaded.value, loaded.notes)

    return command


def _loaded(source: str, overrides: Sequence[str], directory: Path) -> LoadedConfig[PretrainConfig]:
    from linear_eval.strict_config.reader import load_config
    from ssl_bf.config import PretrainConfig

    texts = [*overrides, f"run.directory={directory}"]
    return load_config(PretrainConfig, source, texts, packaged="pretrain")
