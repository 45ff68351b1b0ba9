"""What a run directory holds of the very run that is asked for: decides where `auto` goes on."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any

import torch

from linear_eval.system.device import choose_device
from linear_eval.system.distributed import broadcast_from_main, is_distributed, is_main
from linear_eval.system.errors import EXIT_WRONG_INPUT, InputError
from ssl_bf.config import PretrainConfig, decisive_settings
from ssl_bf.run.checkpoint import Checkpoint, load_newest, published_steps
from ssl_bf.run.directory import BACKBONE_FILE, CONFIG_FILE
from ssl_bf.run.saved_config import saved_config

_NUM_NAMED = 3  # how many differing keys a message lists


class Begun(IntEnum):
    """How far the run that is asked for has come."""

    NOTHING = 0  # no run is there
    UNSAVED = 1  # it began, and was killed before its first checkpoint
    SAVED = 2  # it has a checkpoint, sound or not
    FINISHED = 3  # its backbone is there, and no checkpoint (any more)


def what_is_there(config: PretrainConfig, directory: Path) -> Begun:
    """How far the run got; the main process looks, so that all processes do the same.

    Args:
        config: the run that is asked for.
        directory: where it is, or will be.

    Raises:
        InputError: another run is there; the message names the keys that differ.
        SystemExit: so it is, and the main process says it.
    """
    return Begun(_said_by_main(config, partial(_looked_up, config, directory)))


def load_agreed(config: PretrainConfig, directory: Path) -> Checkpoint:
    """The checkpoint to go on from: the newest sound one that the main process sees.

    Raises:
        InputError: it sees none, or this process does not see that one.
        SystemExit: it sees none, and says so.
    """
    found: list[Checkpoint] = []

    def look() -> int:
        found.append(load_newest(directory))
        return found[0].step

    step = _said_by_main(config, look)
    return found[0] if found else load_newest(directory, step=step)


def _said_by_main(config: PretrainConfig, look: Callable[[], int]) -> int:
    """What `look` returns in the main process, >= 0; the others end quietly where it raises."""
    device = choose_device(config.speed.device)
    answer = torch.tensor(-1, device=device if device.type == "cuda" else "cpu")
    try:
        if is_main():
            answer.fill_(look())
    finally:
        if is_distributed():
            broadcast_from_main(answer)
    if int(answer) < 0:
        raise SystemExit(EXIT_WRONG_INPUT)
    return int(answer)


def _looked_up(config: PretrainConfig, directory: Path) -> Begun:
    if not (directory / CONFIG_FILE).is_file():
        # Something without a config is nobody's run: `check_directory` refuses it.
        return Begun.NOTHING
    _check_same(saved_config(directory), config, directory)
    if published_steps(directory):
        return Begun.SAVED
    return Begun.FINISHED if (directory / BACKBONE_FILE).is_file() else Begun.UNSAVED


def _check_same(there: PretrainConfig, asked: PretrainConfig, directory: Path) -> None:
    began_with, now = decisive_settings(there), decisive_settings(asked)
    missing = object()
    differing = [
        key
        for key in dict.fromkeys((*began_with, *now))
        if began_with.get(key, missing) != now.get(key, missing)
    ]
    if not differing:
        return
    # The name of a section decides which other keys it has.
    differing.sort(key=lambda key: not key.endswith(".name"))
    named = "; ".join(
        f"{key}={_shown(began_with, key)} there, {_shown(now, key)} asked for"
        for key in differing[:_NUM_NAMED]
    )
    more = f"; and {len(differing) - _NUM_NAMED} more" if len(differing) > _NUM_NAMED else ""
    raise InputError(
        f"run.directory: {directory} holds another run ({named}{more}), and run.resume=auto goes "
        "on with the same one only; put that back, or choose another directory"
    )


def _shown(settings: dict[str, Any], key: str) -> str:
    return str(settings[key]) if key in settings else "(no such key)"
