"""Losses of class logits: cross-entropy with a prior, smoothing or weights, and LDAM's margins.

Shapes: A streams, N local batch, C classes.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ssl_bf.losses.unit_length import full_precision


def class_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    prior: Tensor | None = None,
    label_smoothing: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of (logits + prior) with the labels.

    Args:
        logits: (A, N, C); the gradient flows here only.
        labels: (N,) int64 in [0, C), the same for every stream.
        prior: (C,) added to the logits, see `log_prior`; None adds nothing.
        label_smoothing: share of the target that all classes have in equal parts, in [0, 1).
        weights: (C,) of the images of each class; None: all 1.

    Returns:
        (A,) means over N, in nats, float32 or wider.

    Source: with a prior of log n, balanced softmax (Ren et al. 2020, arXiv 2007.10740); with one of
        tau log pi, logit adjustment (Menon et al. 2021, arXiv 2007.07314).
    Differs: weighted losses are divided by N, not by the sum of the batch's weights, so that the
        processes of a run weigh an image alike.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = full_precision(logits)
        if prior is not None:
            logits = logits + prior.to(logits.dtype)
        streams, count, classes = logits.shape
        losses = functional.cross_entropy(
            logits.reshape(-1, classes),
            labels.repeat(streams),
            reduction="none",
            label_smoothing=label_smoothing,
        ).view(streams, count)
        if weights is not None:
            losses = losses * weights.to(losses.dtype)[labels]
        return losses.mean(dim=1)


def log_prior(counts: Tensor, tau: float) -> Tensor:
    """(C,) numbers of training images > 0 -> tau * log of their shares, float64.

    The same for counts that are all scaled alike.
    """
    counts = counts.double()
    return tau * (counts / counts.sum()).log()


def ldam_margins(counts: Tensor, largest: float) -> Tensor:
    """(C,) numbers of training images > 0 -> margins ~ n ** (-1/4), float64.

    The rarest class has the `largest`.

    Source: Cao et al. 2019 (LDAM, arXiv 1906.07413).
    """
    counts = counts.double()
    return largest * (counts.min() / counts) ** 0.25


def with_margins(cosines: Tensor, labels: Tensor, margins: Tensor, scale: float) -> Tensor:
    """Subtract from a cosine the margin of the image's own class, at that class; times `scale`.

    Args:
        cosines: (A, N, C) in [-1, 1].
        labels: (N,) int64.
        margins: (C,).
        scale: > 0.

    Returns:
        (A, N, C) logits.

    Source: Cao et al. 2019 (LDAM, arXiv 1906.07413), with the normalised classifier of its code.
    """
    own = functional.one_hot(labels, cosines.shape[2]) * margins.to(cosines.dtype)
    return scale * (cosines - own)


def effective_number_weights(counts: Tensor, beta: float) -> Tensor:
    """(C,) numbers of training images > 0 -> weights ~ (1 - beta) / (1 - beta ** n), float64.

    Their mean over the training images is 1.

    Args:
        counts: (C,).
        beta: in (0, 1).

    Source: Cui et al. 2019 (arXiv 1901.05555), used late in training by Cao et al. 2019.
    Differs: there the mean over the classes is 1, and a batch is divided by its own weights.
    """
    counts = counts.double()
    weights = (1 - beta) / (1 - beta**counts)
    return weights * counts.sum() / (weights * counts).sum()
