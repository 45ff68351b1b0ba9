"""Processes that work together: if one finds the input wrong, all stop with its message.

Every process calls these functions in the same order, like `all_gather_rows`. What they send is
small and on the CPU. For one process they change nothing.

Shapes: N rows of this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch

from linear_eval.system.distributed import (
    all_gather_rows,
    barrier,
    is_main,
    join_gloo,
    rank,
    shut_down,
    world_size,
)
from linear_eval.system.errors import EXIT_WRONG_INPUT, InputError
from linear_eval.system.printable import one_line
from linear_eval.system.screen import say

if TYPE_CHECKING:
    from torch import Tensor

PATIENCE = timedelta(days=7)  # of processes that wait for the main one; torchrun ends dead ones
T = TypeVar("T")


class AgreedError(InputError):
    """An error of one process that all processes know."""


@contextmanager
def working_together() -> Iterator[None]:
    """Join the processes that torchrun started, if it did; leave them at the end.

    An error that all have heard of is printed by the main process alone; then all exit with 2.
    (torchrun itself exits with 1 whatever its processes return.)

    Raises:
        InputError: an error of this process alone; torchrun ends the others.
    """
    join_gloo(PATIENCE)
    try:
        yield
    except AgreedError as error:
        if is_main():
            say(f"error: {one_line(str(error))}")
        barrier()  # whoever left first would have torchrun end the others before they have spoken
        raise SystemExit(EXIT_WRONG_INPUT) from error
    finally:
        shut_down()


def agreed(work: Callable[[], T]) -> T:
    """The result of `work` in this process, once it is done in all.

    Args:
        work: may talk to the other processes as long as its errors are those of all.

    Raises:
        InputError: `work` raised one in some process; all raise that of the lowest rank.
    """
    if world_size() == 1:
        return work()
    failure: InputError | None = None
    try:
        done = work()
    except InputError as error:
        failure = error
    texts = _gather_texts(str(failure) if failure else "")
    if text := next(filter(None, texts), None):
        raise AgreedError(text) from failure
    return done


def gather_vectors(x: Tensor) -> list[Tensor]:
    """Vectors (N,) of all processes, by rank; of one dtype, each as long as it likes."""
    lengths = all_gather_rows(torch.tensor([len(x)])).tolist()
    longest = max(lengths)
    padded = x.new_zeros(longest)
    padded[: len(x)] = x
    gathered = all_gather_rows(padded).view(world_size(), longest)
    return [row[:length] for row, length in zip(gathered, lengths, strict=True)]


def own_share(count: int) -> range:
    """Which of `count` rows are this process's: a contiguous part, by rank."""
    return range(rank() * count // world_size(), (rank() + 1) * count // world_size())


def gather_scores(scores: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """Vectors (count,) put together from every process's `own_share` of each.

    Args:
        scores: (count,) by name, the same names in every process.
        count: of rows.
    """
    own = own_share(count)
    return {
        name: torch.cat(gather_vectors(score[own.start : own.stop]))
        for name, score in scores.items()
    }


def _gather_texts(text: str) -> list[str]:
    data = text.encode("utf-8", "surrogateescape")
    vectors = gather_vectors(torch.tensor(list(data), dtype=torch.uint8))
    return [bytes(each.tolist()).decode("utf-8", "surrogateescape") for each in vectors]
