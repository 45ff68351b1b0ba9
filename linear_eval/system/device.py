"""Where torch computes."""

from __future__ import annotations

from typing import Literal

import torch

from linear_eval.system.errors import InputError


def choose_device(asked: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device that `speed.device` asks for; without a number: the GPU that this process took.

    Args:
        asked: `auto` is a GPU where there is one.

    Raises:
        InputError: a GPU is asked for and there is none.
    """
    has_gpu = asked != "cpu" and torch.cuda.is_available()
    if asked == "cuda" and not has_gpu:
        raise InputError("speed.device: 'cuda' is not available here; set speed.device=auto or cpu")
    return torch.device("cuda" if has_gpu else "cpu")
