"""A similarity and a gallery row as one integer, so that sorting decides ties by the lower row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def similarity_keys(products: Tensor, index: Tensor, excluded: Tensor) -> Tensor:
    """One int64 per pair; ascending order is falling similarity, and rising row among equals.

    The upper 32 bits are the bits of the similarity, made monotonic; the lower 32 are the row.

    Args:
        products: (b, n) floating; rounded to float32, -0.0 to 0.0.
        index: gallery rows, (b, n) or (n,) int64, below 2**32.
        excluded: (b, n) bool; these pairs get similarity -inf.

    Returns:
        (b, n) int64, unique within a row where `index` is.
    """
    similarity = products.float().masked_fill(excluded, -torch.inf).add_(0.0)  # -0.0 + 0.0 is 0.0
    upper = ~ordered_bits(similarity)
    return upper.to(torch.int64).bitwise_left_shift_(32).bitwise_or_(index)


def decode_keys(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Similarities float32 and gallery rows int64 of any keys, in the keys' shape."""
    upper = (keys >> 32).to(torch.int32)
    return floats_of(~upper, torch.float32), keys & 0xFFFFFFFF


def best_keys(keys: Tensor, k: int) -> Tensor:
    """The best min(k, n) of n keys per row, best first."""
    return keys.topk(min(k, keys.shape[1]), largest=False).values


def sort_keys(keys: Tensor) -> Tensor:
    """All keys of each row, best first; may sort `keys` itself."""
    if keys.device.type != "cpu":
        return keys.sort(dim=1).values
    keys.numpy().sort(axis=1)  # eight times as fast as torch's sort, which also tracks positions
    return keys


def ordered_bits(values: Tensor) -> Tensor:
    """Integers as wide as the values, float32 or bfloat16, and of their order; -0.0 before 0.0."""
    return _monotonic(values.view({2: torch.int16, 4: torch.int32}[values.dtype.itemsize]))


def floats_of(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """The values of `dtype` whose `ordered_bits` these are."""
    return _monotonic(bits).view(dtype)


def _monotonic(bits: Tensor) -> Tensor:
    """Bits of floating numbers to integers of the same order, and back: its own inverse."""
    width = torch.iinfo(bits.dtype)
    return bits ^ ((bits >> (width.bits - 1)) & width.max)
