"""`ssl-bf pretrain`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval.commands.subcommand import add_config, add_parser
from linear_eval.system.errors import load_torch
from ssl_bf.commands import before_torch

if TYPE_CHECKING:
    from linear_eval.commands.subcommand import Commands
    from ssl_bf.config import PretrainConfig

EXAMPLE = """\
example:
  ssl-bf pretrain moco_v3_batchformer_cifar10 data.root=data/cifar10 epochs=20
  ssl-bf pretrain ... run.resume=auto      (starts, or goes on: the same line after any end)
  torchrun --nproc-per-node 8 -m ssl_bf pretrain ...      (on several devices)

CONFIG is a YAML file, or the name of a packaged one (ssl-bf configs lists them): quickstart,
small_image_folder, moco_v3_image_folder, or METHOD_DATA or METHOD_batchformer_DATA with METHOD
moco_v2, moco_v3 or simsiam and DATA cifar10, tiny_imagenet_40, imagenet100 or imagenet. --show
prints every key with its value; ??? must be given. --explain KEY says what a key means.
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands,
        "pretrain",
        says="train a backbone",
        example=EXAMPLE,
        # One that makes steps is asked to stop, saves and says so itself.
        if_interrupted="run.directory is as it was, or the run is done; the same command begins "
        "again, and goes on with a store that it was packing",
    )
    add_config(parser, "pretrain", "a YAML file or a packaged name")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="replaces that of the file, such as epochs=10 method.temperature=0.2",
    )
    parser.add_argument("--show", action="store_true", help="print the whole config and stop")
    parser.set_defaults(command=_pretrain)


def _pretrain(given: argparse.Namespace) -> None:
    from linear_eval.strict_config.places import LEFT_OUT

    for_missing = LEFT_OUT if given.show or given.explain is not None else None
    before_torch.check_config(given.config, given.overrides, for_missing)
    if given.explain is not None:
        before_torch.check_key(given.explain)
    load_torch(if_interrupted=given.if_interrupted)
    if given.explain is not None:
        print(explain_key(given.config, given.overrides, given.explain))
    elif given.show:
        print(whole_config(given.config, given.overrides), end="")
    else:
        pretrain(given.config, given.overrides)


def whole_config(source: str, overrides: Sequence[str]) -> str:
    """Every key of a run as YAML, with its value; `???` stands for what must be given."""
    from linear_eval.strict_config.reader import to_yaml

    return to_yaml(_shown(source, overrides))


def explain_key(source: str, overrides: Sequence[str], key: str) -> str:
    """What a key means, and its value in this run."""
    from linear_eval.strict_config.explained import explain
    from ssl_bf.config import PretrainConfig

    return explain(PretrainConfig, key, _shown(source, overrides))


def _shown(source: str, overrides: Sequence[str]) -> PretrainConfig:
    from linear_eval.strict_config.places import LEFT_OUT
    from linear_eval.strict_config.reader import load_config
    from ssl_bf.config import PretrainConfig

    read = load_config(PretrainConfig, source, overrides, packaged="pretrain", for_missing=LEFT_OUT)
    return read.value


def pretrain(source: str, overrides: Sequence[str]) -> None:
    """Train as a config file and overrides say, see `start`."""
    from linear_eval.strict_config.reader import load_config
    from ssl_bf.config import PretrainConfig

    loaded = load_config(PretrainConfig, source, overrides, packaged="pretrain")
    start(loaded.value, loaded.notes)


def start(config: PretrainConfig, notes: Sequence[str]) -> None:
    """Train a run from its beginning or, where `run.resume` says so, from where it got to.

    Nothing is written before the first step is made. So a run that `run.overwrite` gives up is
    there until another one is known to work.

    Args:
        config: the whole run.
        notes: lines for its log.
    """
    from linear_eval.strict_config.reader import to_yaml
    from ssl_bf.build import build_run
    from ssl_bf.commands.resume import go_on_joined
    from ssl_bf.ranks.processes import joined_processes
    from ssl_bf.run.begun import Begun, what_is_there
    from ssl_bf.run.directory import check_directory, claimed, clear_for, say_finished
    from ssl_bf.train import train

    directory = Path(config.run.directory)
    with joined_processes(config) as heartbeats:
        begun = Begun.NOTHING
        if config.run.resume == "auto":
            begun = what_is_there(config, directory)
        if begun is Begun.FINISHED:
            say_finished(directory)
        elif begun is Begun.SAVED:
            go_on_joined(config, directory, heartbeats)
        else:
            overwrite = config.run.overwrite or begun is Begun.UNSAVED
            reads = {"backbone.init": config.backbone.init, "speed.like": config.speed.like}
            check_directory(directory, overwrite=overwrite, reads=reads)
            run = build_run(config, directory=directory)
            run.notes[:0] = notes
            with claimed(directory):
                # once more: another run may have begun and ended here since
                check_directory(directory, overwrite=overwrite, reads=reads)
                begin = partial(clear_for, to_yaml(config), directory)
                train(run, directory, begin=begin, heartbeats=heartbeats)
