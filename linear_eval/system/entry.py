"""Where a command begins: a signal is one line, however early; torch is loaded when it is used."""

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from linear_eval.system.interruption import be_deaf, hear, name_of, number_of, speaks


def run(module: str) -> int:
    """Import the command line `module`, run its `main` and return the exit code."""
    try:
        hear()
        load_torch_late()
        code: int = importlib.import_module(module).main()
        be_deaf()
        return code
    except KeyboardInterrupt as interruption:
        if speaks():
            print(f"{name_of(interruption)}: nothing was begun", file=sys.stderr)
        return 128 + number_of(interruption)


class _LateModule(ModuleType):
    """A module that is loaded when anything but its `__spec__` (which `import` reads) is used."""

    def __getattribute__(self, name: str) -> Any:
        spec: ModuleSpec = super().__getattribute__("__spec__")
        if name == "__spec__":
            return spec
        self.__class__ = ModuleType  # type: ignore[assignment]  # a plain module from now on
        assert spec.loader is not None, spec
        spec.loader.exec_module(self)
        return getattr(self, name)


def load_torch_late() -> None:
    """Have `import torch` return at once, and torch loaded when something of it is first used.

    Loading takes seconds. A config class lies beside the class it configures, whose file imports
    torch: without this, one mistyped key would be answered after those seconds. Such a file takes
    names out of torch (`from torch import Tensor`) for its annotations alone, as that is a use.
    Python 3.15 has `lazy import torch` for the same. (The standard library's LazyLoader loads a
    module as soon as a second file imports it.)
    """
    spec = importlib.util.find_spec("torch")
    if spec is not None and "torch" not in sys.modules:
        torch = importlib.util.module_from_spec(spec)
        torch.__class__ = _LateModule
        sys.modules["torch"] = torch
