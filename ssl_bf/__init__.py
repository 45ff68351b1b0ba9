"""How a backbone is pretrained: contrastive methods, and relations inside a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from linear_eval import __version__ as __version__

if TYPE_CHECKING:
    from linear_eval.system.errors import InputError as InputError
    from ssl_bf.from_python import BatchFormer as BatchFormer
    from ssl_bf.from_python import FinishedRun as FinishedRun
    from ssl_bf.from_python import pretrain as pretrain
    from ssl_bf.from_python import resume as resume

_FROM_PYTHON = ("BatchFormer", "FinishedRun", "pretrain", "resume")


if not TYPE_CHECKING:  # which would take any name for one of ours

    def __getattr__(name: str) -> Any:
        """What is called from Python, loaded when it is asked for: torch takes seconds."""
        if name == "InputError":
            from linear_eval.system.errors import InputError

            return InputError
        if name in _FROM_PYTHON:
            from ssl_bf import from_python

            return getattr(from_python, name)
        raise AttributeError(f"module 'ssl_bf' has no attribute '{name}'")


def __dir__() -> list[str]:
    """For completion in notebooks."""
    return sorted([*globals(), *_FROM_PYTHON, "InputError"])
