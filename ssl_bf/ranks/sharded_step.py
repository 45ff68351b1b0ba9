"""A training step whose shards do not depend on the number of processes.

Each shard has a copy of the method, as a process of its own would have: what a step notes,
BatchNorm statistics, queues and slow copies. Trained parameters are one memory in all of them.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from linear_eval.system.distributed import all_gather_rows
from ssl_bf.keyed_random import StepContext, key
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.method import Method
from ssl_bf.ranks.gradients import average
from ssl_bf.schedules import Elapsed
from ssl_bf.shards.shard import add_in_order
from ssl_bf.shards.turns import HeldShards


class ShardedStep:
    """Makes steps as one process per shard would, whoever holds the shards."""

    def __init__(
        self,
        method: Method,
        optimizer: torch.optim.Optimizer,
        shards: HeldShards,
        *,
        in_bf16: bool,
        is_ordered: bool,
    ) -> None:
        """Take them over; the copies are made at the first step.

        Args:
            method: of the first shard held.
            optimizer: of its parameters.
            shards: those of this process.
            in_bf16: whether the method runs under autocast.
            is_ordered: see `average`.
        """
        self.shards = shards
        self._methods = [method]
        self._optimizer = optimizer
        self._in_bf16 = in_bf16
        self._is_ordered = is_ordered

    def update(self, batch: Batch, context: StepContext, progress: Elapsed) -> Tensor:
        """Change everything that is trained; returns the mean of the losses of all shards."""
        self._copy_methods()
        losses = self.shards.each(partial(self.compute, batch, context))
        self.change()
        self.shards.each(partial(self.after_step, progress))
        return add_in_order(all_gather_rows(torch.stack(losses))) / self.shards.count

    def forget_copies(self) -> None:
        """After a state was put into the method of the first shard: the others copy it anew."""
        del self._methods[1:]

    def measurements(self) -> dict[str, float]:
        """Those of the first shard that this process holds; all processes ask together."""
        return self.shards.each(lambda place: self._methods[place].measurements())[0]

    def method(self, place: int) -> Method:
        """Of the shard at a place among those held."""
        return self._methods[place]

    def compute(self, batch: Batch, context: StepContext, place: int) -> Tensor:
        """Forward and backward of one shard; returns its loss."""
        method, number = self._methods[place], self.shards.numbers[place]
        for parameter in method.parameters():
            parameter.grad = None
        torch.manual_seed(key(context.seed, "dropout", context.step, number))
        # A copy, because libraries may compute otherwise where memory begins elsewhere.
        part = batch.map(lambda rows: rows.chunk(self.shards.held)[place].clone())
        # Weights are cast anew at each use: whether autocast finds an earlier cast, and adds up its
        # gradients in bfloat16, would depend on what other threads, other shards, do meanwhile.
        device = part.image_ids.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self._in_bf16, cache_enabled=False):
            loss: Tensor = method(part, replace(context, shard=number))
        torch.autograd.backward(loss)
        return loss.detach()

    def change(self) -> None:
        """Add up the gradients, and update what is trained."""
        average(self._gradients(), self.shards.count, is_ordered=self._is_ordered)
        self._optimizer.step()

    def after_step(self, progress: Elapsed, place: int) -> None:
        """Move the slow copies of one shard."""
        self._methods[place].after_step(progress)

    def _gradients(self) -> list[list[Tensor]]:
        found = [[p.grad for p in method.parameters()] for method in self._methods]
        with_one = [[g is not None for g in gradients] for gradients in found]
        assert all(each == with_one[0] for each in with_one), "shards train different parameters"
        return [[g for g in gradients if g is not None] for gradients in found]

    def _copy_methods(self) -> None:
        """Late: the state of a run that goes on is put into the first of them."""
        first = self._methods[0]
        while len(self._methods) < self.shards.held:
            copied = copy.deepcopy(first)
            for own, shared in zip(copied.parameters(), first.parameters(), strict=True):
                if shared.requires_grad:
                    own.data = shared.data
            self._methods.append(copied)
