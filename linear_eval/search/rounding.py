"""Rounding rows to a type whose products are fast, and choosing the type that answers soonest.

The types are float32, bfloat16 and int8. Processors differ in which they multiply fast. Features
differ in how many digits they need: a row that rounded products cannot rule out is a candidate, and
costs time.

Shapes: G gallery rows, D feature width, n rows or queries.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from linear_eval.features.rows import FeatureRows

if TYPE_CHECKING:
    from torch import Tensor

# Seconds, about, on processors of 2025; they decide between types, so a factor of two does no harm.
PER_CANDIDATE = 1.2e-7, 2.4e-10  # to find and multiply one in float64, and for each of its D
PER_ROW = 5e-8, 4e-11  # to rank a row where all are ranked, likewise
_MOST = 127  # of an int8 row's whole numbers


def most_candidates(k: int) -> int:
    """Candidates per query and tile beyond which to give up."""
    return 8 * (k + 64)


def round_rows(rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows (n, D) float32, rounded, and the step (n, 1) float32 that they are multiples of."""
    if dtype != torch.int8:
        return rows.to(dtype, copy=True), torch.ones(len(rows), 1)
    step = rows.abs().amax(dim=1, keepdim=True).div_(_MOST).clamp_(min=2.0**-100)
    return (rows / step).round_().to(dtype), step


def rough_dtype(queries: FeatureRows, gallery: FeatureRows, k: int, center: Tensor) -> torch.dtype:
    """The type whose products lead to the answer soonest here; it never changes that."""
    seconds, most = product_seconds(), most_candidates(k)
    candidate = PER_CANDIDATE[0] + PER_CANDIDATE[1] * gallery.width
    everything = len(gallery) * (PER_ROW[0] + PER_ROW[1] * gallery.width)

    def cost(dtype: torch.dtype) -> float:
        """Of a query, in seconds."""
        found = expected_candidates(dtype, queries, gallery, k, center)
        ranking = torch.where(found > most / 2, everything, found * candidate).mean()
        return seconds[dtype] * len(gallery) * gallery.width + float(ranking)

    return min(seconds, key=cost)


Product = Callable[["Tensor", "Tensor", "Tensor"], object]
"""Multiplies (m, D) by (n, D) of one type into (m, n): of the same type, int32 for int8."""


def fast_product(dtype: torch.dtype) -> Product:
    """The function that multiplies rows of this type fastest here."""
    return _products()[dtype][0]


def product_seconds() -> dict[torch.dtype, float]:
    """How long a product of two numbers takes here within a large product of rows, by their type.

    It is measured once, which takes some milliseconds. Whether a processor can and whether torch
    makes use of it differ by platform and build. int8 is left out where torch has no exact product
    of it.
    """
    return {dtype: seconds for dtype, (_, seconds) in _products().items()}


@functools.cache
def _products() -> dict[torch.dtype, tuple[Product, float]]:
    known: dict[torch.dtype, list[Product]] = {
        # MKL, behind torch.mm, is half as fast as oneDNN on some processors it was not made for
        torch.float32: [_by_mm, _by_onednn],
        torch.bfloat16: [_by_mm],
        torch.int8: [_by_int_mm],
    }
    found = {}
    for dtype, products in known.items():
        timed = [(each, _seconds(each, dtype)) for each in products if _is_exact(each, dtype)]
        if timed:
            found[dtype] = min(timed, key=lambda pair: pair[1])
    return found


def _by_mm(left: Tensor, right: Tensor, out: Tensor) -> None:
    torch.mm(left, right.T, out=out)


def _by_onednn(left: Tensor, right: Tensor, out: Tensor) -> None:
    out.copy_(torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], ""))


def _by_int_mm(left: Tensor, right: Tensor, out: Tensor) -> None:
    torch._int_mm(left, right.T, out=out)


def _is_exact(product: Product, dtype: torch.dtype) -> bool:
    """Whether torch has it and small whole numbers are multiplied exactly.

    A processor without VNNI may clip sums of two products of int8.
    """
    rows = torch.full((32, 64), _MOST if dtype == torch.int8 else 2, dtype=dtype)
    rows[::2, 1::3] *= -1
    found = torch.empty(32, 32, dtype=_product_dtype(dtype))
    try:
        product(rows, rows, found)
    except (AttributeError, RuntimeError):  # another version or build of torch
        return False
    wide = rows.double()
    return torch.equal(found.double(), wide @ wide.T)


def _seconds(product: Product, dtype: torch.dtype) -> float:
    left, right = torch.ones(1024, 512, dtype=dtype), torch.ones(256, 512, dtype=dtype)
    out = torch.empty(1024, 256, dtype=_product_dtype(dtype))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        product(left, right, out)
        times.append(time.perf_counter() - start)
    return min(times) / (1024 * 256 * 512)


def _product_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.int32 if dtype == torch.int8 else dtype


def expected_candidates(
    dtype: torch.dtype, queries: FeatureRows, gallery: FeatureRows, k: int, center: Tensor
) -> Tensor:
    """How many rows `dtype` will not rule out for some queries (n,), going by a sample of rows.

    They are many where rows differ by little beside their length, as those of a random backbone.
    """
    cpu = torch.device("cpu")
    asking = queries.take(torch.arange(0, len(queries), math.ceil(len(queries) / 64)), cpu)
    rows = gallery.take(torch.arange(0, len(gallery), math.ceil(len(gallery) / 2048)), cpu) - center
    lost, length = [], []
    for part in (asking, rows):
        rounded, step = round_rows(part, dtype)
        lost.append(torch.linalg.vector_norm(part - rounded.float() * step, dim=1))
        length.append(torch.linalg.vector_norm(part, dim=1))
    error = lost[0] * length[1].amax() + length[0] * lost[1].amax()
    products = asking @ rows.T
    kth = products.topk(math.ceil(k * len(rows) / len(gallery)), dim=1).values[:, -1]
    margin = error if dtype == torch.int8 else 2 * error + torch.finfo(dtype).eps * kth.abs()
    found: Tensor = (products >= (kth - margin)[:, None]).sum(dim=1)
    return found * (len(gallery) / len(rows))
