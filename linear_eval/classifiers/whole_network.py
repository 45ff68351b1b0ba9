"""Fine-tuning: a copy of a backbone and a linear layer on it, trained together on labelled images.

Shapes: M images, S x S pixels of a view, C classes.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.features.table import FeatureTable, frozen
from linear_eval.images.batches import EvalImages, ImageBatches
from linear_eval.images.train_views import TrainView
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A backbone, and how images reach it.

    Attributes:
        backbone: (N, 3, H, W) -> (N, feature_dim).
        feature_dim: width of its features.
        mean: per channel, of images in [0, 1].
        std: per channel, > 0.
        file: that the backbone comes from; None where it comes from none.
    """

    backbone: nn.Module
    feature_dim: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class FineTuneRecipe:
    """SGD with Nesterov momentum, the rate falling to 0 on a cosine, step by step.

    Attributes:
        epochs: passes over the images, each with new crops and flips.
        batch_size: images of a step, >= 2; what is left of an epoch after the last whole batch
            waits for the next epoch.
        momentum: in (0, 1).
        weight_decay: >= 0, of all parameters.
    """

    epochs: int = 50
    batch_size: int = 128
    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs: must be >= 1, got {self.epochs}")
        if self.batch_size < 2:
            raise ValueError(
                f"batch_size: must be >= 2, or BatchNorm has nothing to average, got "
                f"{self.batch_size}"
            )
        if not 0 < self.momentum < 1:
            raise ValueError(f"momentum: must be in (0, 1), got {self.momentum}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay: must be >= 0, got {self.weight_decay}")


def fine_tuned(
    pretrained: Pretrained,
    split: ImageSplit,
    recipe: FineTuneRecipe,
    *,
    learning_rate: float,
    view_size: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Train a copy of the backbone with a linear layer, BatchNorm in train mode, in float32.

    Args:
        pretrained: is left as it was, weights and buffers.
        split: images of any size, M >= 2, labels >= 0; all of them can be read.
        recipe: how to descend.
        learning_rate: per 256 images: training starts at rate * batch_size / 256.
        view_size: S of the random resized crops.
        seed: of the order of images and of the views; the linear layer starts at 0.
        device: where to compute.

    Returns:
        Normalised images (N, 3, H, W) -> logits (N, C), C = largest label + 1; not a number where
        the training diverged.

    Raises:
        InputError: fewer than two images.

    Source: Chen et al. 2020 (SimCLR, arXiv 2002.05709), appendix B.5, and Grill et al. 2020 (BYOL,
    arXiv 2006.07733): Nesterov momentum 0.9, random crops and flips, no weight decay.
    Differs: batches of 128 instead of 4,096 and 1,024, so that few images still make many steps.
    """
    count = len(split)
    if count < 2:
        raise InputError(
            f"fine_tune: {count} labelled images, expected two or more; raise the number of labels"
        )
    network = _network(pretrained, num_classes=1 + int(split.labels.max())).to(device).train()
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )
    shift, scale = (
        torch.tensor(x, device=device).view(3, 1, 1) for x in (pretrained.mean, pretrained.std)
    )
    generator = torch.Generator().manual_seed(seed)
    batch_size = min(recipe.batch_size, count)
    whole_batches = count // batch_size
    step = 0
    for epoch in range(recipe.epochs):
        order = torch.randperm(count, generator=generator)[: whole_batches * batch_size]
        views = TrainView(size=view_size, seed=seed, epoch=epoch).of(split).select(order)
        batches = ImageBatches(split=views, images=EvalImages(), batch_size=batch_size)
        for index, images in batches:
            done = step / (recipe.epochs * whole_batches)
            peak = learning_rate * recipe.batch_size / 256
            optimizer.param_groups[0]["lr"] = peak * (1 + math.cos(math.pi * done)) / 2
            logits = network((images.to(device).float() / 255 - shift) / scale)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, views.labels[index].to(device)).backward()
            optimizer.step()
            step += 1
    return network


def logits_of(
    network: nn.Module, pretrained: Pretrained, batches: ImageBatches, device: torch.device | str
) -> FeatureTable:
    """Logits (M, C) of whole images as the `features` of a table, in eval mode."""
    with frozen(
        network, mean=pretrained.mean, std=pretrained.std, device=torch.device(device)
    ) as embed:
        # not collect_features: logits of a diverged network are not finite, and that is no error
        found = [(index, embed(images).float().cpu()) for index, images in batches]
    index = torch.cat([rows for rows, _ in found])
    return FeatureTable(
        features=torch.cat([logits for _, logits in found]),
        labels=batches.split.labels[index],
        ids=tuple(batches.split.ids[row] for row in index.tolist()),
    )


def _network(pretrained: Pretrained, num_classes: int) -> nn.Sequential:
    backbone = copy.deepcopy(pretrained.backbone).requires_grad_(True)
    # skip_init: drawing weights only to replace them would move torch's global generator
    head: nn.Linear = torch.nn.utils.skip_init(torch.nn.Linear, pretrained.feature_dim, num_classes)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    return torch.nn.Sequential(backbone, head)


def top_classes(logits: Tensor, count: int) -> Tensor:
    """The best classes of logits (M, C), best first: (M, min(count, C)); ties by class."""
    return logits.sort(dim=1, descending=True, stable=True).indices[:, :count]
