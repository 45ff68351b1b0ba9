"""A CUDA graph imitated on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class RecordedGraph:
    """What a CUDA graph does: a replay repeats the operations on the very same tensors.

    No Python runs in a replay, so a number that was read or computed on the host stays as it was.
    The recording runs once, unlike on a GPU; the first replay is therefore left out.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0

    def warm_up(self, update: Callable[[], Tensor]) -> Tensor:
        return update()

    def capture(self, update: Callable[[], Tensor]) -> Tensor:
        with _Recording(self.calls):
            return update()

    @torch.no_grad()
    def replay(self) -> None:
        self.replays += 1
        if self.replays == 1:
            return
        for func, args, kwargs, recorded in self.calls:
            again = func(*args, **kwargs)
            held = {x.untyped_storage()._cdata for x in _tensors((args, kwargs))}
            for place, value in zip(_tensors(recorded), _tensors(again), strict=True):
                if place.untyped_storage()._cdata not in held:
                    place.detach().copy_(value)


class _Recording(TorchDispatchMode):
    def __init__(self, calls: list[tuple[Any, Any, Any, Any]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls = calls

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._calls.append((func, args, kwargs or {}, result))
        return result


def _tensors(values: Any) -> list[Tensor]:
    return [x for x in tree_leaves(values) if isinstance(x, Tensor)]
