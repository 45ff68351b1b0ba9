"""View recipes of supervised training: what may be seen of an image without changing its class.

Shapes: N images of a batch, S x S pixels of a view.
"""

import torch
from torch import Tensor

from linear_eval.images.crop_boxes import DRAWS, random_resized_crop
from linear_eval.system.errors import InputError
from ssl_bf.views.auto_augment import DRAWS as AUGMENT_DRAWS
from ssl_bf.views.auto_augment import AutoAugments
from ssl_bf.views.colour_ops import NEUTRAL
from ssl_bf.views.padded_crops import PAD, PaddedCrops
from ssl_bf.views.photo_views import Photos
from ssl_bf.views.view_draws import ViewDraws
from ssl_bf.views.views_config import ViewsConfig


def crop_flip(sizes: Tensor, draws: ViewDraws, config: ViewsConfig) -> Photos:
    """Random resized crop and flip, colours as they are; `min_scale` is 0.08 as published.

    Args:
        sizes: (N, 2) int64, height and width of every image.
        draws: names the view.
        config: of the views.

    Source: Szegedy et al. 2015 (arXiv 1409.4842), as ResNets are trained on ImageNet.
    """
    crop, count = draws.uniform("crop", DRAWS + 1), len(sizes)
    nothing = torch.zeros(count)
    return Photos(
        box=random_resized_crop(
            crop[:, 1:], height=sizes[:, 0], width=sizes[:, 1], min_scale=config.min_scale
        ),
        flip=crop[:, 0] < 0.5,
        factors=torch.tensor(NEUTRAL).expand(count, 4),
        order=torch.arange(4).expand(count, 4),
        gray=nothing > 0,
        sigma=nothing,
        solarize=nothing > 0,
        blur_room=0,
    )


def pad_crop(sizes: Tensor, draws: ViewDraws, config: ViewsConfig) -> PaddedCrops:
    """Pad by 4, cut out S x S, flip; then AutoAugment and Cutout where `views` asks for them.

    Args:
        sizes: (N, 2) int64, all S.
        draws: names the view.
        config: of the views.

    Raises:
        InputError: an image is not S x S pixels.

    Source: He et al. 2016 (arXiv 1512.03385), section 4.2; the order of the further steps is that
        of balanced softmax and PaCo on CIFAR.
    """
    if bool((sizes != config.size).any()):
        height, width = sizes[(sizes != config.size).any(dim=1)][0].tolist()
        raise InputError(
            f"views.recipe: pad_crop needs images of views.size={config.size} pixels a side, one "
            f"has {width} x {height}; set views.size to that of the images, or "
            "views.recipe=crop_flip"
        )
    place, augments = draws.uniform("crop", 3), None
    if config.auto_augment:
        augments = AutoAugments.drawn(draws.uniform("auto augment", AUGMENT_DRAWS))
    return PaddedCrops(
        corner=(place[:, 1:] * (2 * PAD + 1)).long(),
        flip=place[:, 0] < 0.5,
        augments=augments,
        hole=(draws.uniform("cutout", 2) * config.size).long(),
        hole_side=config.cutout,
        fill=config.mean,
    )
