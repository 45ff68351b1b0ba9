"""A variant in a process of its own, where it may set what nothing can take back."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

from bench.rounds import Elsewhere, Seconds, measure


class OwnProcess:
    """Runs a variant in another process, which takes the time; between runs it sleeps."""

    def __init__(
        self, build: Callable[..., Callable[[], Any]], *arguments: Any, device: str = "cpu"
    ) -> None:
        """Start the process and let it call `build`, which must be importable by name."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, device, build, *arguments)
        context.Process(target=_serve, args=arguments, daemon=True).start()

    def __call__(self) -> Elsewhere:
        """Run once there."""
        self._pipe.send("run")
        seconds, result = self._pipe.recv()
        return Elsewhere(Seconds(*seconds), result)


def _serve(
    pipe: Connection, device: str, build: Callable[..., Callable[[], Any]], *arguments: Any
) -> None:
    run = build(*arguments)
    with suppress(EOFError):  # the benchmark has ended
        while pipe.recv():
            seconds, result = measure(run, device)
            # copied: memory of a GPU would be shared, and belongs to the next run
            pipe.send((seconds, tree_map_only(torch.Tensor, torch.Tensor.cpu, result)))
