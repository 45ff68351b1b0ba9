"""What a backbone is and what it is worth: data sets, features, k-NN, linear probe, retrieval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linear_eval.from_python import Backbone as Backbone
    from linear_eval.from_python import Features as Features
    from linear_eval.from_python import Index as Index
    from linear_eval.from_python import evaluate as evaluate
    from linear_eval.from_python import knn as knn
    from linear_eval.from_python import load as load
    from linear_eval.from_python import quality as quality
    from linear_eval.from_python import retrieval as retrieval
    from linear_eval.system.errors import InputError as InputError

__version__ = "0.1.0"

_FROM_PYTHON = (
    *("Backbone", "Features", "Index", "evaluate", "knn", "load", "quality", "retrieval"),
)


if not TYPE_CHECKING:  # which would take any name for one of ours

    def __getattr__(name: str) -> Any:
        """What is called from Python, loaded when it is asked for: torch takes seconds."""
        if name == "InputError":
            from linear_eval.system.errors import InputError

            return InputError
        if name in _FROM_PYTHON:
            from linear_eval import from_python

            return getattr(from_python, name)
        raise AttributeError(f"module 'linear_eval' has no attribute '{name}'")


def __dir__() -> list[str]:
    """For completion in notebooks."""
    return sorted([*globals(), *_FROM_PYTHON, "InputError"])
