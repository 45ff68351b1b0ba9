"""The training step as one CUDA graph: launched as a whole instead of kernel by kernel.

Source: torch's notes on CUDA graphs. It pays where kernels are so short that launching them takes
longer than running them: small images, small networks, small batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from linear_eval.system.distributed import rank
from linear_eval.system.errors import InputError
from ssl_bf.build import Run
from ssl_bf.keyed_random import StepContext
from ssl_bf.methods.batch import Batch
from ssl_bf.schedules import Elapsed

WARM_UP = 3  # steps before the capture, in which optimizer and libraries make what they keep

Update = Callable[[Batch, StepContext, Elapsed], Tensor]
Draw = Callable[[StepContext, str, int], Tensor]


class Graph(Protocol):
    """What records kernels once and launches them again."""

    def warm_up(self, update: Callable[[], Tensor]) -> Tensor:
        """Run `update` as it will be captured, and return what it returns."""

    def capture(self, update: Callable[[], Tensor]) -> Tensor:
        """Record `update` without running it; its result is where replays will leave theirs."""

    def replay(self) -> None:
        """Launch what was recorded."""


class CapturedStep:
    """Steps equal to those that are not captured, but for rounding.

    A replay repeats the same kernels on the same memory. What differs from step to step is
    therefore written to fixed places first: the batch, learning rates, progress and permutations.
    Dropout follows the generator's seed, which a replay reads anew.
    """

    def __init__(self, run: Run, update: Update, graph: Graph | None = None) -> None:
        """Move learning rates to the device; nothing is captured before the first steps have run.

        Args:
            run: one process, one part of the batch at a time.
            update: of everything trained, from a batch, its context and the progress.
            graph: None: a CUDA graph on the current device.
        """
        self._update = update
        self._optimizer = run.optimizer
        self._graph = graph or CudaGraph()
        self._warm_up_left = WARM_UP
        self._batch: Batch | None = None
        self._context = _HeldContext(seed=run.config.seed, shard=rank(), device=run.device)
        epoch = torch.zeros((), dtype=torch.float64, device=run.device)
        self._progress = Elapsed(epoch, run.plan.epochs)
        self._loss: Tensor | None = None
        for group in run.optimizer.param_groups:
            group["lr"] = torch.zeros((), device=run.device)
            if "capturable" in group:
                group["capturable"] = True

    def __call__(self, batch: Batch, context: StepContext, progress: Elapsed) -> Tensor:
        """One update; learning rates and the generator's seed are those of the step already.

        Raises:
            InputError: the step cannot be captured.
        """
        self._hold(batch, context, progress)
        if self._warm_up_left:
            self._warm_up_left -= 1
            return self._graph.warm_up(self._on_held)
        if self._loss is None:
            self._loss = self._captured()
        self._graph.replay()
        return self._loss.clone()

    def _captured(self) -> Tensor:
        self._optimizer.zero_grad()  # gradients shall lie in the graph's own memory
        try:
            return self._graph.capture(self._on_held).detach()
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"speed.cuda_graph: the step could not be captured ({reason}); set "
                "speed.cuda_graph=false"
            ) from error

    def _on_held(self) -> Tensor:
        assert self._batch is not None
        return self._update(self._batch, self._context, self._progress)

    def _hold(self, batch: Batch, context: StepContext, progress: Elapsed) -> None:
        if self._batch is None:
            self._batch = batch.map(torch.clone)
        for place, value in zip(self._batch.tensors(), batch.tensors(), strict=True):
            place.copy_(value)
        self._context = replace(self._context, step=context.step)
        self._context.write_permutations()
        assert isinstance(self._progress.epoch, Tensor)
        self._progress.epoch.fill_(progress.epoch)


@dataclass(frozen=True)
class _HeldContext(StepContext):
    """Gives permutations that lie on the device, where those of another step can be written."""

    device: torch.device | None = None
    held: dict[tuple[Draw, str, int], Tensor] = field(default_factory=dict)

    def permutation(self, purpose: str, n: int) -> Tensor:
        """As in `StepContext`, on the device."""
        return self._place(StepContext.permutation, purpose, n)

    def global_permutation(self, purpose: str, n: int) -> Tensor:
        """As in `StepContext`, on the device."""
        return self._place(StepContext.global_permutation, purpose, n)

    def write_permutations(self) -> None:
        """Write those of this step over those of an earlier one."""
        for (draw, purpose, n), place in self.held.items():
            place.copy_(draw(self, purpose, n), non_blocking=True)

    def _place(self, draw: Draw, purpose: str, n: int) -> Tensor:
        asked = (draw, purpose, n)
        if asked not in self.held:
            self.held[asked] = draw(self, purpose, n).to(self.device)
        return self.held[asked]


class CudaGraph:
    """A `torch.cuda.CUDAGraph` with the warm-up that it needs."""

    def __init__(self) -> None:
        """Belongs to the current device."""
        self._graph = torch.cuda.CUDAGraph()
        self._stream = torch.cuda.Stream()

    def warm_up(self, update: Callable[[], Tensor]) -> Tensor:
        """On a stream of its own, as the capture will."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            result = update()
        torch.cuda.current_stream().wait_stream(self._stream)
        return result

    def capture(self, update: Callable[[], Tensor]) -> Tensor:
        """Other threads go on reading images meanwhile, hence `thread_local`."""
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            return update()

    def replay(self) -> None:
        """On the current stream."""
        self._graph.replay()
