"""The baseline "random": a backbone that was never trained, with BatchNorm fitted to the data.

Without the fit its BatchNorm would use statistics of no data at all, and the baseline would look
worse than a random network is.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from linear_eval.backbones.architectures import build_backbone
from linear_eval.features.table import frozen
from linear_eval.images.batches import ImageBatches
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

CALIBRATION_IMAGES = 2048
CALIBRATION_BATCH = 256  # fixed, so that the baseline does not depend on `batch_size`


def random_backbone(architecture: str, *, seed: int) -> nn.Module:
    """Fresh weights drawn from `seed`; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build_backbone(architecture).requires_grad_(False)


def calibrate_batch_norm(
    backbone: nn.Module,
    train: ImageBatches,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    seed: int,
    device: torch.device,
) -> None:
    """Set every BatchNorm's running statistics to the average over 2,048 train images.

    The images are drawn by `seed`, in batches of 256; a short last batch is dropped, because its
    statistics would weigh as much as those of a full one.

    Raises:
        InputError: fewer than two images.
    """
    norms = [
        module
        for module in backbone.modules()
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    ]
    momenta = [norm.momentum for norm in norms]
    batches = _sample(train, seed)
    with frozen(backbone, mean=mean, std=std, device=device) as embed:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # cumulative average
            norm.train()
        for _, images in batches:
            embed(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def calibration_contents(train: ImageBatches, *, seed: int) -> str:
    """What the files of the images that BatchNorm is fitted to hold, as text; "" for no files."""
    contents = _sample(train, seed).split.contents
    if contents is None:
        return ""
    digests = contents.digests().numpy().tobytes()
    return f", contents {hashlib.sha256(digests).hexdigest()}"


def _sample(train: ImageBatches, seed: int) -> ImageBatches:
    if len(train.split) < 2:
        raise InputError(
            "data: 'random' needs at least two train images for its BatchNorm; "
            "raise data.max_images"
        )
    generator = torch.Generator().manual_seed(seed)
    order: Tensor = torch.randperm(len(train.split), generator=generator)[:CALIBRATION_IMAGES]
    full = len(order) - len(order) % CALIBRATION_BATCH
    return replace(train.select(order[: full or None]), batch_size=CALIBRATION_BATCH)
