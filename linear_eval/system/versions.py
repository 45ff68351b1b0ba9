"""Versions of what computes the numbers."""

from __future__ import annotations

import importlib.metadata
import platform

from linear_eval import __version__

_PACKAGES = ("torch", "torchvision", "numpy", "safetensors", "faiss-gpu", "faiss-cpu")


def versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    found = {"linear_eval": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # one of the two faiss, or neither: it is optional
    return found
