"""Monitoring values of a step: collapse, a stream that knows its batch, unsteady gradients."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_bf.losses.unit_length import full_precision, unit_length
from ssl_bf.relations.relation import Relation


@torch.no_grad()
def feature_std(projections: Tensor) -> dict[str, float]:
    """`feature_std/stream_s`: channel standard deviation of unit-length rows, times sqrt(P).

    About 1 when the rows spread over the sphere, 0 when they have collapsed. `projections` is
    (S, N, P). Source: SimSiam, figure 2 (arXiv 2011.10566).
    """
    spread = unit_length(projections).std(dim=1).mean(dim=1) * projections.shape[2] ** 0.5
    return {f"feature_std/stream_{s}": value for s, value in enumerate(spread.tolist())}


@torch.no_grad()
def context_gap(queries: Tensor, keys: Tensor, queued: Tensor) -> dict[str, float]:
    """`context_gap/stream_s` of each query stream.

    Mean similarity to the other keys of the batch minus mean similarity to queued keys. A large
    gap means that the stream recognises its batch instead of the image.

    Args:
        queries: (S, N, P), any length.
        keys: (N, P) plain keys of the same images, unit length.
        queued: (K, P) unit length.
    """
    gaps = {}
    for s, query in enumerate(unit_length(queries)):
        similar = query @ keys.to(query.dtype).T  # (N, N); the diagonal is the own key
        others = (similar.sum() - similar.trace()) / (similar.numel() - len(similar))
        gaps[f"context_gap/stream_{s}"] = (
            others - (query @ queued.to(query.dtype).T).mean()
        ).item()
    return gaps


@torch.no_grad()
def relation_values(relation: Relation) -> dict[str, float]:
    """What the relation did to the rows that it related last.

    `gate`: how far it is open, where there is one. `stream_cosine`: see `stream_cosines`, the mean.
    `attention_entropy/layer_I` of each layer: see `Attention.relative_entropy`. Computes the
    attention anew, without dropout; waits for the device once.
    """
    values: dict[str, Tensor] = {}
    if (gate := relation.gate()) is not None:
        values["gate"] = gate
    if relation.noted is not None:
        values["stream_cosine"] = stream_cosines(relation.noted.streams).mean()
    for number, layer in enumerate(relation.attention()):
        if layer.weights.shape[-1] > 1:  # or there is nothing to choose
            values[f"attention_entropy/layer_{number}"] = layer.relative_entropy()
    numbers = torch.stack([value.double() for value in values.values()]) if values else None
    return {} if numbers is None else dict(zip(values, numbers.tolist(), strict=True))


def stream_cosines(streams: Tensor) -> Tensor:
    """(2, N, D) -> (N,) in [-1, 1]: cosine between an image's plain and its related row."""
    plain, related = full_precision(streams)
    return functional.cosine_similarity(plain, related, dim=1)


def gradient_norm(network: nn.Module) -> dict[str, float | Tensor]:
    """`gradient_norm`: length of the gradient of everything trained, a scalar on the device."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    if not gradients:
        return {}
    return {"gradient_norm": torch.stack(torch._foreach_norm(gradients)).norm()}


_LISTS = ("blocks", "layers", "stages")  # of modules, in the networks we train; each has a line


def gradient_norms(backbone: nn.Module) -> dict[str, float]:
    """`gradient_norm/LAYER`: length of the gradient of each layer of the backbone.

    A layer is a module at the top of the backbone, such as `patch_embed` or `layer1`, or one of a
    list of them, such as `blocks.0`. Layers that are not trained are left out. Waits for the
    device once.
    """
    named = [(name, p.grad) for name, p in backbone.named_parameters() if p.grad is not None]
    if not named:
        return {}
    norms = torch.stack(torch._foreach_norm([gradient for _, gradient in named])).tolist()
    squares: dict[str, float] = {}
    for (name, _), norm in zip(named, norms, strict=True):
        first, *rest = name.split(".")
        layer = f"{first}.{rest[0]}" if first in _LISTS else first
        squares[layer] = squares.get(layer, 0.0) + norm**2
    return {f"gradient_norm/{layer}": math.sqrt(square) for layer, square in squares.items()}
