"""`ssl-bf resume`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval.commands.subcommand import add_parser
from linear_eval.system.errors import InputError, load_torch
from ssl_bf.commands import before_torch

if TYPE_CHECKING:
    from linear_eval.commands.subcommand import Commands
    from ssl_bf.build import Run
    from ssl_bf.config import PretrainConfig
    from ssl_bf.ranks.heartbeats import Heartbeats
    from ssl_bf.run.checkpoint import Checkpoint

EXAMPLE = """\
example:
  ssl-bf resume runs/quickstart/with_batchformer
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands,
        "resume",
        says="go on exactly where a run stopped",
        example=EXAMPLE,
        # One that makes steps is asked to stop, saves and says so itself.
        if_interrupted="the run is as its newest checkpoint left it; the same command goes on",
    )
    parser.add_argument("directory", type=Path, help="the run's directory")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="of speed.*, run.*, data.root and data.on_bad_image, for this time",
    )
    parser.set_defaults(command=_resume)


def _resume(given: argparse.Namespace) -> None:
    before_torch.check_run(given.directory, given.overrides)
    load_torch(if_interrupted=given.if_interrupted)
    resume(given.directory, given.overrides)


def resume(directory: Path, overrides: Sequence[str] = ()) -> None:
    """Go on with a run where its newest sound checkpoint left it.

    Args:
        directory: of the run.
        overrides: of the keys `RESUMABLE`, for this time only.
    """
    go_on(config_to_go_on(directory, overrides), directory)


def config_to_go_on(directory: Path, overrides: Sequence[str]) -> PretrainConfig:
    """The config of a run, with overrides of the keys `RESUMABLE`."""
    from ssl_bf.run.saved_config import saved_config

    before_torch.check_run(directory, overrides)
    return saved_config(directory, overrides)


def go_on(config: PretrainConfig, directory: Path) -> None:
    """Go on with a run, whose config is at hand, from its newest sound checkpoint."""
    from ssl_bf.ranks.processes import joined_processes

    with joined_processes(config) as heartbeats:
        go_on_joined(config, directory, heartbeats)


def go_on_joined(config: PretrainConfig, directory: Path, heartbeats: Heartbeats | None) -> None:
    """The same, with its processes joined."""
    from ssl_bf.run.directory import BACKBONE_FILE, claimed, say_finished
    from ssl_bf.train import train

    with claimed(directory):
        run, saved = restored(config, directory)
        first_step = saved.step
        if first_step >= run.plan.total_steps and (directory / BACKBONE_FILE).exists():
            say_finished(directory, run.plan.total_steps)
            return
        train(run, directory, first_step=first_step, heartbeats=heartbeats)


def restored(
    config: PretrainConfig, directory: Path, *, goes_on: bool = True
) -> tuple[Run, Checkpoint]:
    """The run as its newest sound checkpoint left it, and that checkpoint.

    Args:
        config: of the run.
        directory: of the run.
        goes_on: False: it is only looked at, and so many processes as trained it need not be there.
    """
    from linear_eval.backbones.configs import GivenBackboneConfig
    from ssl_bf.build import build_run
    from ssl_bf.pixels.identity import check_identity
    from ssl_bf.run.begun import load_agreed
    from ssl_bf.run.directory import CONFIG_FILE
    from ssl_bf.run.saved_config import check_order, earlier_reading
    from ssl_bf.run.training_state import restore

    saved = load_agreed(config, directory)
    _check_settings(saved, config, directory)
    if goes_on:
        _check_processes(saved, config, directory)
    # The weights come from the checkpoint; the file that the run began with may be gone.
    without_init = config
    if not isinstance(config.backbone, GivenBackboneConfig):
        without_init = replace(config, backbone=replace(config.backbone, init=None))
    run = replace(build_run(without_init, begun=saved.state), config=config)
    run.notes.extend(saved.notes)
    for key in earlier_reading(directory / CONFIG_FILE):
        run.notes.append(f"{key}, as in the version that began this run")
    try:
        if saved.step < run.plan.total_steps:
            check_order(saved.state)
        unknown = check_identity(saved.state, run.images)
        run.notes.extend([unknown] if unknown else [])
        restore(run.method, run.optimizer, saved.tensors)
    except InputError as error:
        raise InputError(f"{directory}: {error}") from error
    return run, saved


def _check_processes(saved: Checkpoint, config: PretrainConfig, directory: Path) -> None:
    """Refuse to go on with processes that cannot share the shards of the run.

    Raises:
        InputError: their number does not divide that of the shards.
    """
    from ssl_bf.ranks.shards_of_run import shards_of

    try:
        shards_of(config, saved.state)
    except InputError as error:
        raise InputError(f"{directory}: {error}") from error


def _check_settings(saved: Checkpoint, config: PretrainConfig, directory: Path) -> None:
    """Refuse a run that would compute something else from here on.

    Raises:
        InputError: it had other decisive settings.
    """
    from ssl_bf.config import decisive_settings
    from ssl_bf.run.directory import CONFIG_FILE

    now = decisive_settings(config)
    began_with = saved.state.get("settings", now)  # earlier versions saved none
    for key, value in began_with.items():
        if key in now and now[key] != value:
            raise InputError(
                f"{directory}: its {CONFIG_FILE} says {key}={now[key]}, but it began with {value}, "
                "and a run cannot change while it goes on; put that back, or start a new run"
            )
