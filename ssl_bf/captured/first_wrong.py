"""Where a number first went wrong: the operation, the module and the line that asked for it.

Only a replay pays for this: every operation of forward, backward and update is looked at.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Phase = Literal["forward", "backward", "update"]
_PACKAGE = Path(__file__).resolve().parents[1]
_UNSET = ("empty", "new_empty", "empty_like", "empty_strided", "resize_")  # hold anything


def is_broken(value: Any) -> bool:
    """Whether a tensor has NaN or +inf; -inf is what a candidate that is left out has."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return False
    return bool(value.isnan().any()) or bool((value == float("inf")).any())


@dataclass
class Wrong:
    """Where a number first broke.

    Attributes:
        phase: of the step.
        shard: its place among those that are computed.
        says: operation, module and line.
        gradients: the first that are broken, once a backward is done.
    """

    phase: Phase
    shard: int
    says: str
    gradients: str = ""

    def __str__(self) -> str:
        """In one line."""
        return f"in {self.phase}, {self.says}{self.gradients}"


class FirstWrong(TorchDispatchMode):
    """Inside, finds the first operation that makes a broken number of sound ones."""

    def __init__(self, network: nn.Module, found: list[Wrong], phase: Phase, shard: int) -> None:
        """Begin.

        Args:
            network: names the modules.
            found: where it was is added to it, if it is empty; those who watch other parts of a
                step share it.
            phase: what is done; after the forward of the whole network it is the backward.
            shard: of which shard.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.phase = phase
        self._network, self._found, self._shard = network, found, shard
        self._names = {module: name for name, module in network.named_modules()}
        self._inside: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, and look at what goes in and comes out until something is found."""
        kwargs = kwargs or {}
        if self._found:
            return function(*args, **kwargs)
        was_sound = not any(map(is_broken, tree_leaves((args, kwargs))))
        result = function(*args, **kwargs)
        name = function.overloadpacket.__name__
        if was_sound and name not in _UNSET and any(map(is_broken, tree_leaves(result))):
            self._found.append(Wrong(self.phase, self._shard, self._place(name)))
        return result

    @contextmanager
    def watching_modules(self) -> Iterator[None]:
        """Know which module runs, of those of the network."""

        def enter(module: nn.Module, *_: Any) -> None:
            self._inside.append(self._names[module])

        def leave(module: nn.Module, *_: Any) -> None:
            self._inside.pop()
            if module is self._network:
                self.phase = "backward"

        handles = [m.register_forward_pre_hook(enter) for m in self._names]
        handles += [m.register_forward_hook(leave, always_call=True) for m in self._names]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _place(self, operation: str) -> str:
        module = next((name for name in reversed(self._inside) if name), None)
        where = f"operation {operation}"
        if module is not None:
            where += f", module {module}"
        line = _line_of(lambda path: _room(path) in ("losses", "relations", "parts", "methods"))
        term = _line_of(lambda path: _room(path) == "methods")
        if line is not None:
            where += f", {line}"
        if term is not None and term != line:
            where += f"; the term: {term}"
        return where


def broken_names(tensors: dict[str, Tensor]) -> list[str]:
    """Names of the tensors that are not finite."""
    return [n for n, v in tensors.items() if v.is_floating_point() and not v.isfinite().all()]


def _room(path: Path) -> str | None:
    if not path.is_relative_to(_PACKAGE):
        return None
    return path.relative_to(_PACKAGE).parts[0]


def _line_of(is_wanted: Callable[[Path], bool]) -> str | None:
    """The innermost line of our own in a file that is wanted."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if is_wanted(path):
            text = linecache.getline(str(path), frame.f_lineno).strip()
            place = path.relative_to(_PACKAGE.parent)
            return f"{place}:{frame.f_lineno} {frame.f_code.co_name}: {text}"
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None
