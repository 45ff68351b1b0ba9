"""Gradient accumulation that keeps all negatives: only the backbone runs part by part.

The features of all parts meet before heads, relation and loss, which see the whole batch. A part
is computed twice, for its features and again in backward, so that the activations of one part at
a time are held. The cost is one more forward of the backbone.

Source: the idea of Gao et al. 2021 (arXiv 2101.06983, GradCache). Shapes: N batch, D width.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from linear_eval.system.errors import InputError
from ssl_bf.layers.batch_norm import GroupedBatchNorm


def features_in_parts(backbone: nn.Module, view: Tensor, parts: int) -> Tensor:
    """(N, ...) -> (N, D), as `backbone(view)` where no row depends on another.

    BatchNorm normalises each part by itself; its running statistics move once, by the mean over
    the parts. Under DDP gradients are reduced once, after the last part's backward.
    """
    before = _values(backbone)
    features, after = [], []
    for part in view.chunk(parts):
        _set_values(backbone, before)
        features.append(
            checkpoint(
                backbone, part, use_reentrant=False, context_fn=lambda: _first_and_again(backbone)
            )
        )
        after.append(_values(backbone))
    _set_values(backbone, [_mean(values) for values in zip(*after, strict=True)])
    return torch.cat(features)


def split_groups(backbone: nn.Module, parts: int, local_batch: int) -> None:
    """Share the groups of `groups:G` among the parts, in place: the result stays the same.

    Args:
        backbone: whose groups divide the batch.
        parts: of the batch, equal, each of whole groups.
        local_batch: images per device.

    Raises:
        InputError: no such parts of at least 2 images; names the next number that works.
    """
    norms = [module for module in backbone.modules() if isinstance(module, GroupedBatchNorm)]
    groups = math.gcd(*(norm.groups for norm in norms))  # all the same; 0 where there are none
    works = [n for n in range(1, local_batch // 2 + 1) if local_batch % n == 0 == groups % n]
    if parts not in works:
        whole = f", with whole groups of method.batch_norm=groups:{groups}" if groups else ""
        raise InputError(
            f"accumulate: {parts} does not cut the {local_batch} images per device into equal "
            f"parts of at least 2{whole}; set accumulate="
            f"{min((n for n in works if n > parts), default=works[-1])}"
        )
    for norm in norms:
        norm.groups //= parts


def _first_and_again(
    backbone: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds the first forward of a part, and the one in backward."""
    return nullcontext(), _buffers_kept(backbone)


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    before = _values(module)
    try:
        yield
    finally:
        _set_values(module, before)


def _values(module: nn.Module) -> list[Tensor]:
    return [buffer.clone() for buffer in module.buffers()]


@torch.no_grad()
def _set_values(module: nn.Module, values: list[Tensor]) -> None:
    if values:
        torch._foreach_copy_(list(module.buffers()), values)


def _mean(values: tuple[Tensor, ...]) -> Tensor:
    """Of a running statistic; a counter has counted the same in every part."""
    return torch.stack(values).mean(dim=0) if values[0].is_floating_point() else values[0]
