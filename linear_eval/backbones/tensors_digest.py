"""What a digest says of tensors: that they are those that were written."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def tensors_sha256(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names and bytes of the tensors, in hex."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + b"\0")
        digest.update(tensors[name].contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
