"""View recipes: one function per recipe, named after the paper it comes from.

A recipe first draws what is done to each image (`ViewDraws`), for a whole batch and on the CPU. The
draws depend on (seed, epoch, view, image), never on the batch. Then they are applied (`Photos`,
`TextureWindows`, `PaddedCrops`), which draws nothing and never waits for the device. To add a
recipe: one function, its name in `ViewsConfig.recipe` and in RECIPES.

Shapes: N images of a batch, S x S pixels of a view.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from linear_eval.images.crop_boxes import DRAWS, random_resized_crop
from linear_eval.system.errors import InputError
from ssl_bf.pixels.packed_images import Images, PackedImages, device_of, sizes_of
from ssl_bf.views.colour_ops import NEUTRAL, texture_colours
from ssl_bf.views.label_recipes import crop_flip, pad_crop
from ssl_bf.views.padded_crops import PaddedCrops
from ssl_bf.views.photo_views import Photos
from ssl_bf.views.texture_views import TextureWindows
from ssl_bf.views.view_draws import ViewDraws
from ssl_bf.views.views_config import ViewsConfig as ViewsConfig
from ssl_bf.views.write_views import write_views


def make_view(
    images: Images | PackedImages,
    draws: ViewDraws,
    config: ViewsConfig,
    *,
    channels_last: bool = False,
    compiled: bool = False,
) -> Tensor:
    """The only one of `make_views`."""
    (view,) = make_views(images, [draws], config, channels_last=channels_last, compiled=compiled)
    return view


def make_views(
    images: Images | PackedImages,
    draws: Sequence[ViewDraws],
    config: ViewsConfig,
    *,
    channels_last: bool = False,
    compiled: bool = False,
) -> list[Tensor]:
    """Normalised views of every image, on the device of the images.

    Args:
        images: (N, 3, H, W) uint8, N tensors (3, H_i, W_i) uint8, or N packed images.
        draws: names each of the views; its image ids belong to `images` row by row.
        config: recipe, size and normalisation.
        channels_last: memory format of the result.
        compiled: by `torch.compile`, which the first call waits for; not where a CPU works on one
            image at a time, and not for textures.

    Returns:
        (N, 3, S, S) float32 for each of `draws`.
    """
    size, count, device = config.size, len(images), device_of(images)
    if isinstance(images, PackedImages):
        images = images.for_views()
    drawn = [RECIPES[config.recipe](sizes_of(images), view, config) for view in draws]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    views = [
        torch.empty((count, 3, size, size), device=device, memory_format=layout) for _ in draws
    ]
    # Products of pixels keep float32 even if the caller trains in a lower precision. Nothing made
    # in here leaves: `views` themselves are ordinary tensors.
    with torch.autocast(device.type, enabled=False), torch.inference_mode():
        write_views(views, images, drawn, config.mean, config.std, compiled=compiled)
    return views


def moco_v2(sizes: Tensor, draws: ViewDraws, config: ViewsConfig) -> Photos:
    """Crop, flip, colour jitter, grayscale, blur; both views alike.

    Args:
        sizes: (N, 2) int64, height and width of every image.
        draws: names the view.
        config: of the views.

    Source: Chen et al. 2020 (arXiv 2003.04297), `--aug-plus` of the published code.
    """
    return _photos(sizes, draws, config, saturation=0.4, blur=0.5)


def simsiam(sizes: Tensor, draws: ViewDraws, config: ViewsConfig) -> Photos:
    """The views of MoCo-v2.

    Source: Chen and He 2020 (arXiv 2011.10566); `blur: false` for CIFAR-10.
    """
    return moco_v2(sizes, draws, config)


def moco_v3(sizes: Tensor, draws: ViewDraws, config: ViewsConfig) -> Photos:
    """BYOL's unequal views: view 1 is always blurred, view 2 seldom, but sometimes solarized.

    Source: Chen et al. 2021 (arXiv 2104.02057); `min_scale` is 0.2 for ResNets, 0.08 for ViTs.
    """
    if draws.view == 1:
        return _photos(sizes, draws, config, saturation=0.2, blur=1.0)
    return _photos(sizes, draws, config, saturation=0.2, blur=0.1, solarize=0.2)


def textures(sizes: Tensor, draws: ViewDraws, config: ViewsConfig) -> TextureWindows:
    """Rotated crop and a random affine map of the colours, for the quickstart's `textures`.

    Colour and background are destroyed, so that only the pattern is left to learn from.

    Raises:
        InputError: images that are not square, or of unequal size.
    """
    if bool((sizes != sizes[0, 0]).any()):
        raise InputError(
            "views.recipe: 'textures' needs square images of one size; use moco_v2, moco_v3 or "
            "simsiam"
        )
    draw = draws.uniform("window", 5)
    side = (config.min_scale + (1 - config.min_scale) * draw[:, 0]).sqrt()
    matrix, offset = texture_colours(draws.uniform("colours", 11))
    return TextureWindows(
        angle=math.radians(54) * (2 * draw[:, 1] - 1),
        side=side,
        centre=(2 * draw[:, 2:4] - 1) * (1 - side)[:, None],
        flip=draw[:, 4] < 0.5,
        matrix=matrix,
        offset=offset,
    )


def _photos(
    sizes: Tensor,
    draws: ViewDraws,
    config: ViewsConfig,
    *,
    saturation: float,
    blur: float,
    solarize: float = 0.0,
) -> Photos:
    """SimCLR's sequence: strength of saturation, and how likely blur and solarization are.

    Colours are jittered with probability 0.8, then views become gray with probability 0.2.
    """
    crop, colour = draws.uniform("crop", DRAWS + 1), draws.uniform("colour", 10)
    strength = torch.tensor([0.4, 0.4, saturation, 0.1])
    neutral = torch.tensor(NEUTRAL)
    factors = neutral + strength * (2 * colour[:, :4] - 1)
    none = torch.zeros(len(sizes))
    sigma, solarized = none, none > 0
    blur = blur if config.blur else 0.0
    if blur:
        draw = draws.uniform("blur", 2)
        sigma = torch.where(draw[:, 0] < blur, 0.1 + 1.9 * draw[:, 1], none)
    if solarize:
        solarized = draws.uniform("solarize", 1)[:, 0] < solarize
    return Photos(
        box=random_resized_crop(
            crop[:, 1:], height=sizes[:, 0], width=sizes[:, 1], min_scale=config.min_scale
        ),
        flip=crop[:, 0] < 0.5,
        factors=torch.where(colour[:, 8:9] < 0.8, factors, neutral),
        order=colour[:, 4:8].argsort(1),
        gray=colour[:, 9] < 0.2,
        sigma=sigma,
        solarize=solarized,
        blur_room=enough_rows(len(sizes), blur),
    )


def enough_rows(count: int, probability: float) -> int:
    """So many of `count` rows that more are chosen in less than one of a million batches."""
    deviation = math.sqrt(count * probability * (1 - probability))
    return min(count, math.ceil(count * probability + 6 * deviation))


Recipe = Callable[[Tensor, ViewDraws, ViewsConfig], Photos | TextureWindows | PaddedCrops]

RECIPES: dict[str, Recipe] = {
    "moco_v2": moco_v2,
    "moco_v3": moco_v3,
    "simsiam": simsiam,
    "textures": textures,
    "crop_flip": crop_flip,
    "pad_crop": pad_crop,
}
