"""What health and capture cost in the quickstart: their share of the time of its steps.

The processor's time of the main thread, in one run, so that a busy machine does not matter: in the
numbers of a line (which the rules look at), in the rules, and in what keeps a step to capture it.
What the forward pass hands on for these numbers is part of the step and not told apart.
"""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ssl_bf.train
from linear_eval.strict_config.reader import load_config
from ssl_bf.captured.recorder import Recorder
from ssl_bf.captured.run_health import RunHealth
from ssl_bf.commands.pretrain import start
from ssl_bf.config import PretrainConfig
from tests.torture.row import Row, Trials, Tried

_MOST = 0.01
_WATCHING: tuple[tuple[Any, str], ...] = (
    (ssl_bf.train, "_values"),
    (RunHealth, "look"),
    *((Recorder, name) for name in ("remember", "before", "after", "want_after")),
)
_SHORT = (
    *("epochs=4", "precision=float32", "speed.threads=1", "speed.device=cpu"),
    *("run.monitor_every=0", "run.tensorboard=false"),
)


class _Clock:
    """Adds up the time of the calls of functions."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.count = 0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*given: Any, **keys: Any) -> Any:
            begun = time.thread_time()
            try:
                return function(*given, **keys)
            finally:
                self.seconds += time.thread_time() - begun
                self.count += 1

        return call


def _prepare(folder: Path) -> Trials:
    def trial(number: int) -> Tried:
        place, watching, steps = folder / str(number), _Clock(), _Clock()
        words = [*_SHORT, f"seed={number}", f"run.directory={place}"]
        loaded = load_config(PretrainConfig, "quickstart", words, packaged="pretrain")
        with ExitStack() as stack:
            for owner, name in _WATCHING:
                watched = watching.around(getattr(owner, name))
                stack.enter_context(patch.object(owner, name, watched))
            update = steps.around(ssl_bf.train._update)
            stack.enter_context(patch.object(ssl_bf.train, "_update", update))
            start(loaded.value, loaded.notes)
        shutil.rmtree(place)
        share = watching.seconds / steps.seconds
        return Tried(
            (f"{share:.2%} of the steps",) if share > _MOST else (),
            steps.count,
            {
                "ms of watching": round(watching.seconds * 1e3),
                "ms of steps": round(steps.seconds * 1e3),
            },
        )

    return Trials(trial)


ROW = Row(
    name="cost",
    says="steps of the quickstart in runs where health and capture cost over 1 %",
    prepare=_prepare,
    must=100,
    seconds=600,
)
