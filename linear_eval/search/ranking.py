"""Scores of ranked lists, one per query, as pure functions.

Each takes `relevant` (Q, n) bool: whether the item at each rank, best first, has the query's class.
`num_relevant` (Q,) counts a query's relevant items in the whole gallery and must be >= 1: a query
without any has no score. Scores are float64 in [0, 1].

Shapes: Q queries, n ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def recall_at_k(relevant: Tensor, k: int) -> Tensor:
    """1 where a relevant item is among the first k, else 0.

    Args:
        relevant: (Q, n) with n >= k.
        k: >= 1.

    Source: Jegou et al. 2011 (TPAMI 33(1)), as metric learning uses the word (Song et al. 2016,
    arXiv 1511.06452); information retrieval calls it success at k.
    """
    assert 1 <= k <= relevant.shape[1], (k, relevant.shape)
    return relevant[:, :k].any(dim=1).double()


def average_precision(relevant: Tensor, num_relevant: Tensor) -> Tensor:
    """Mean, over a query's relevant items, of the precision at each one's rank; 0 for absent ones.

    Its mean over queries is mAP, if `relevant` ranks the whole gallery.
    """
    return _precision_at_hits(relevant) / num_relevant


def average_precision_at_r(relevant: Tensor, num_relevant: Tensor) -> Tensor:
    """Average precision of the first R ranks, R being the query's number of relevant items.

    Args:
        relevant: (Q, n) with n >= the largest R.
        num_relevant: R, (Q,).

    Source: Musgrave et al. 2020, section 3.2 (arXiv 2003.08505); its mean over queries is MAP@R.
    """
    return _precision_at_hits(_first_r(relevant, num_relevant)) / num_relevant


def r_precision(relevant: Tensor, num_relevant: Tensor) -> Tensor:
    """Share of relevant items among the first R, R being the query's number of relevant items.

    Args:
        relevant: (Q, n) with n >= the largest R.
        num_relevant: R, (Q,).
    """
    return _first_r(relevant, num_relevant).sum(dim=1).double() / num_relevant


def precision_at_k(relevant: Tensor, num_relevant: Tensor, k: int) -> Tensor:
    """Share of relevant items among the first k; among the first p where the last one's rank p < k.

    Args:
        relevant: (Q, n), each row with all of its query's relevant items.
        num_relevant: (Q,).
        k: >= 1, may exceed n.

    Source: Radenovic et al. 2018, mP@k (arXiv 1803.11285), as their `compute_map` counts it: a
    query with few relevant items, all found early, reaches 1.
    """
    assert k >= 1, k
    _require_all_found(relevant, num_relevant)
    ranks = torch.arange(1, relevant.shape[1] + 1, device=relevant.device)
    last = (relevant * ranks).amax(dim=1).clamp(max=k)  # (Q,)
    return (relevant & (ranks <= last[:, None])).sum(dim=1).double() / last


def trapezoidal_average_precision(relevant: Tensor, num_relevant: Tensor) -> Tensor:
    """Area under the precision-recall curve with straight lines between its points.

    The j-th relevant item, at rank r (from 1), adds a trapezoid of width 1 / num_relevant between
    the precision before it, (j - 1) / (r - 1), and at it, j / r; before rank 1 precision is 1.

    Args:
        relevant: (Q, n); absent items add nothing.
        num_relevant: (Q,).

    Source: Radenovic et al. 2018 (arXiv 1803.11285), as revisited Oxford and Paris are scored.
    """
    hits = relevant.cumsum(dim=1, dtype=torch.int32).double()
    ranks = torch.arange(1, relevant.shape[1] + 1, device=relevant.device)
    before = (hits - 1) / (ranks - 1).clamp(min=1)
    before[:, :1] = 1
    return ((before + hits / ranks) * relevant).sum(dim=1) / (2 * num_relevant)


def without_ignored(relevant: Tensor, ignored: Tensor) -> Tensor:
    """Move the ignored items of each ranking behind all others, as if the gallery lacked them.

    Args:
        relevant: (Q, n) bool.
        ignored: (Q, n) bool: items that count neither for nor against a query.

    Returns:
        (Q, n) bool: the relevant items at their ranks among the others; False behind these.
    """
    assert not bool((relevant & ignored).any()), "an item is relevant and ignored at once"
    order = ignored.to(torch.uint8).argsort(dim=1, stable=True)
    return relevant.gather(1, order)


def _require_all_found(relevant: Tensor, num_relevant: Tensor) -> None:
    assert bool((relevant.sum(dim=1) == num_relevant).all()), "the rankings are not whole"


def _first_r(relevant: Tensor, num_relevant: Tensor) -> Tensor:
    ranks = torch.arange(relevant.shape[1], device=relevant.device)
    return relevant & (ranks < num_relevant[:, None])


def _precision_at_hits(relevant: Tensor) -> Tensor:
    """Sum over the relevant ranks of the precision there (Q,)."""
    hits = relevant.cumsum(dim=1, dtype=torch.int32)
    ranks = torch.arange(1, relevant.shape[1] + 1, device=relevant.device)
    return (hits * relevant).double().div_(ranks).sum(dim=1)
