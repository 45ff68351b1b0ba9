"""Scores of ranked lists, one per query, as pure functions.

Each takes `relevant` (Q, n) bool: whether the item at each rank, best first, has the query's class.
`num_relevant` (Q,) counts a query's relevant items in the whole gallery and must be >= 1: a query
without any has no score. Scores are float64 in [0, 1].

Shapes: Q queries, n ranks.
"""

from __future__ import annotations

import torch
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


def _first_r(relevant: Tensor, num_relevant: Tensor) -> Tensor:
    ranks = torch.arange(relevant.shape[1], device=relevant.device)
    return relevant & (ranks < num_relevant[:, None])


def _precision_at_hits(relevant: Tensor) -> Tensor:
    """Sum over the relevant ranks of the precision there (Q,)."""
    hits = relevant.cumsum(dim=1, dtype=torch.int32)
    ranks = torch.arange(1, relevant.shape[1] + 1, device=relevant.device)
    return (hits * relevant).double().div_(ranks).sum(dim=1)
