"""A CUDA device pretended on the CPU, so that code for a GPU is tried where there is none.

Everything is computed on the CPU, but each storage remembers on which of the two devices it would
lie: `Tensor.device` says so, an operation on tensors of both fails as it would on a GPU, and every
place where the host waits for the device is noted. What it cannot show: kernels, streams, memory,
speed, and threads (an operation in another thread is not watched).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch._dynamo  # now: a dispatch mode imports it, and it must see torch as it is
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda", 0)
# They read a number, or the size of their result depends on numbers: the host waits for both.
WAITING = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::equal",
    "aten::_unique2",
    "aten::bincount",
}
FREE_BYTES = 2**33


class HostWaits(list[str]):
    """Where the host waited for the device, as "file:line: what"."""

    _is_ignoring = False

    def add(self, what: str) -> None:
        """Note the innermost line of the project's own code."""
        if self._is_ignoring:
            return
        frames = [f for f in traceback.extract_stack() if "/torch/" not in f.filename]
        own = [f for f in frames if f.filename != __file__]
        self.append(f"{own[-1].filename}:{own[-1].lineno}: {what}")

    @contextmanager
    def ignored(self) -> Iterator[None]:
        """Inside, nothing is noted."""
        self._is_ignoring = True
        yield
        self._is_ignoring = False


@contextmanager
def pretended_cuda() -> Iterator[HostWaits]:
    """Inside, this thread sees one CUDA device."""
    waits = HostWaits()
    with ExitStack() as stack:
        for owner, name, value in _replacements():
            stack.enter_context(mock.patch.object(owner, name, value))
        stack.enter_context(_Places(waits))
        stack.enter_context(_Devices(waits))
        yield waits


def is_on_cuda(x: Tensor) -> bool:
    """Whether a tensor would lie on the GPU."""
    return bool(getattr(x.untyped_storage(), "on_cuda", False))


def _share_storage(x: Tensor, y: Tensor) -> bool:
    return bool(x.untyped_storage()._cdata == y.untyped_storage()._cdata)


def _place(x: Tensor, on_cuda: bool) -> None:
    x.untyped_storage().on_cuda = on_cuda  # type: ignore[attr-defined]


class _Places(TorchDispatchMode):
    """Gives every result its place, and refuses operations on tensors of both."""

    def __init__(self, waits: HostWaits) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket._qualified_op_name
        given = _tensors((args, kwargs))
        on_cuda = any(is_on_cuda(x) for x in given)
        if on_cuda and name in WAITING:
            self._waits.add(name)
        if name == "aten::copy_":
            if is_on_cuda(args[1]) and not is_on_cuda(args[0]):
                self._waits.add("copy to the host")
            return func(*args, **kwargs)
        strangers = [x for x in given if not is_on_cuda(x) and x.dim() > 0]
        if on_cuda and strangers:
            raise RuntimeError(
                f"{name}: expected all tensors on one device, found {strangers[0].shape} on the "
                "CPU beside others on CUDA"
            )
        result = func(*args, **kwargs)
        if on_cuda:
            for x in _tensors(result):
                if not any(_share_storage(x, each) for each in given):
                    _place(x, True)
        return result


class _Devices(TorchFunctionMode):
    """Turns requests for CUDA into requests for the CPU, and notes the place."""

    def __init__(self, waits: HostWaits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (Tensor.numpy, Tensor.__array__) and is_on_cuda(args[0]):
            raise TypeError("can't convert a CUDA tensor to numpy")
        if func is Tensor.tolist and is_on_cuda(args[0]):
            self._waits.add("tolist")
        if func is Tensor.pin_memory:
            return args[0].clone()
        if func in (Tensor.new_tensor, Tensor.__deepcopy__):  # made without an operation
            with self._waits.ignored():
                result = func(*args, **kwargs)
            _place(result, is_on_cuda(args[0]))
            return result
        wanted = _wanted(func, args, kwargs)
        if wanted is None or func in (torch.device, torch._C._nn._parse_to):
            return func(*args, **kwargs)
        on_cuda = wanted.type == "cuda"
        if isinstance(args[0] if args else None, Tensor) and func in (
            Tensor.to,
            Tensor.cuda,
            Tensor.cpu,
        ):
            return self._moved(func, args, kwargs, on_cuda)
        result = func(*_on_cpu(args), **_on_cpu(kwargs))
        if on_cuda:
            for x in _tensors(result):
                _place(x, True)
        return result

    def _moved(self, func: Any, args: Any, kwargs: Any, on_cuda: bool) -> Tensor:
        source = args[0]
        args = [_on_cpu(x) for x in args if not (isinstance(x, Tensor) and x is not source)]
        args, kwargs = args if func is Tensor.to else [source], _on_cpu(kwargs)
        result: Tensor = Tensor.to(*args, **kwargs) if len(args) > 1 or kwargs else source
        if is_on_cuda(source) == on_cuda:
            return result
        if not on_cuda:
            self._waits.add("copy to the host")
        elif not kwargs.get("non_blocking", False):
            self._waits.add("copy from the host without non_blocking")
        if _share_storage(result, source):
            result = result.clone()
        _place(result, on_cuda)
        return result


def _wanted(func: Any, args: Any, kwargs: Any) -> torch.device | None:
    """The device that a call names, if it names one."""
    if func is Tensor.cuda:
        return CUDA
    if func is Tensor.cpu:
        return torch.device("cpu")
    if func is Tensor.to and len(args) > 1 and isinstance(args[1], Tensor):
        return CUDA if is_on_cuda(args[1]) else torch.device("cpu")
    named = [x for x in tree_leaves((args[:2], kwargs)) if isinstance(x, torch.device)]
    texts = [x for x in (*args[1:2], kwargs.get("device")) if isinstance(x, str)]
    named += [torch.device(x) for x in texts if x.startswith(("cuda", "cpu"))]
    return named[0] if named else None


def _on_cpu(values: Any) -> Any:
    def moved(x: Any) -> Any:
        is_cuda = (isinstance(x, torch.device) and x.type == "cuda") or (
            isinstance(x, str) and x.startswith("cuda")
        )
        return torch.device("cpu") if is_cuda else x

    return tree_map(moved, values)


def _tensors(values: Any) -> list[Tensor]:
    return [x for x in tree_leaves(values) if isinstance(x, Tensor)]


def _replacements() -> Iterable[tuple[Any, str, Any]]:
    own_device: Any = Tensor.device
    own_autocast, own_empty = torch.autocast, torch.empty

    def device(x: Tensor) -> torch.device:
        return CUDA if is_on_cuda(x) else own_device.__get__(x)

    def autocast(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return own_autocast("cpu" if device_type == "cuda" else device_type, *args, **kwargs)

    def empty(*args: Any, pin_memory: bool = False, **kwargs: Any) -> Tensor:
        return own_empty(*args, **kwargs)

    nothing: Callable[..., None] = lambda *args, **kwargs: None  # noqa: E731
    return [
        (Tensor, "device", property(device)),
        (Tensor, "is_cuda", property(is_on_cuda)),
        (torch, "autocast", autocast),
        (torch, "empty", empty),
        (torch.cuda, "is_available", lambda: True),
        (torch.cuda, "is_bf16_supported", lambda *_, **__: True),
        (torch.cuda, "device_count", lambda: 1),
        (torch.cuda, "current_device", lambda: 0),
        (torch.cuda, "get_device_name", lambda *_: "pretended"),
        (torch.cuda, "mem_get_info", lambda *_: (FREE_BYTES, FREE_BYTES)),
        (torch.cuda, "is_current_stream_capturing", lambda: False),
        (torch.accelerator, "current_stream", lambda *_: SimpleNamespace(is_capturing=bool)),
        (torch.cuda, "set_device", nothing),
        (torch.cuda, "synchronize", nothing),
        (torch.cuda, "manual_seed_all", nothing),
    ]
