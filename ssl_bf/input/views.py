"""View recipes: one function per recipe, named after the paper it comes from.

A recipe draws its parameters with `ViewDraws`, so they belong to (seed, epoch, view, image) and
not to a batch, and applies them to a whole batch. To add a recipe: one function, its name in
`ViewsConfig.recipe` and in RECIPES.

Shapes: N images of a batch, S x S pixels of a view.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from linear_eval.errors import InputError
from ssl_bf.input.batch_ops import (
    crop_and_resize,
    gaussian_blur_,
    normalize_,
    rotate_and_crop,
)
from ssl_bf.input.colour_ops import (
    colour_affine,
    colour_jitter,
    grayscale_,
    solarize_,
    texture_colours,
)
from ssl_bf.input.crop_boxes import DRAWS, random_resized_crop
from ssl_bf.input.image_ops import (
    crop_and_resize_each,
    gaussian_blur_each_,
    prefer_one_at_a_time,
)
from ssl_bf.input.preparation import Preparation
from ssl_bf.input.view_draws import ViewDraws

Images = Tensor | Sequence[Tensor]  # (N, 3, H, W) uint8, or N of unequal size

# Float32 views that a CPU works on at a time: small enough for its cache, large enough to hide the
# cost of calling some 500 operations.
CHUNK_BYTES = 2_500_000


@dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    """How two random views are made of an image.

    Attributes:
        recipe: named after the paper; simsiam is moco_v2's.
        size: side of a view in pixels.
        min_scale: smallest crop, as a part of the image's area.
        blur: whether the recipe's blur is applied; False for 32 px images (SimSiam, CIFAR-10).
        engine: batched is ours; lightly runs its PIL transforms one image at a time, for
            comparison.
        mean: subtracted per channel, of images in [0, 1].
        std: divided by, per channel.
        short_side: of an image before views are cut out of it, see `Preparation`.
        jpeg_quality: likewise.
    """

    recipe: Literal["moco_v2", "moco_v3", "simsiam", "textures"]
    size: int
    min_scale: float = 0.2
    blur: bool = True
    engine: Literal["batched", "lightly"] = "batched"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    short_side: int | None = None
    jpeg_quality: int | None = None

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        if self.size < 2:
            raise ValueError(f"size: must be >= 2, got {self.size}")
        if not 0 < self.min_scale <= 1:
            raise ValueError(f"min_scale: must be in (0, 1], got {self.min_scale}")
        if not all(math.isfinite(value) for value in self.mean):
            raise ValueError(f"mean: must be finite, got {self.mean}")
        if not all(0 < value < math.inf for value in self.std):
            raise ValueError(f"std: must be > 0, got {self.std}")
        if self.engine == "lightly" and self.recipe == "textures":
            raise InputError(
                "engine: lightly has no transform like the recipe 'textures', expected moco_v2, "
                "moco_v3 or simsiam; set engine: batched"
            )
        _ = self.preparation  # which checks its own values

    @property
    def preparation(self) -> Preparation:
        """What happens to an image once, before views are cut out of it."""
        return Preparation(short_side=self.short_side, jpeg_quality=self.jpeg_quality)


def make_view(
    images: Images, draws: ViewDraws, config: ViewsConfig, *, channels_last: bool = False
) -> Tensor:
    """One normalised view of every image, on the device of the images.

    Args:
        images: (N, 3, H, W) uint8, or N tensors (3, H_i, W_i) uint8.
        draws: names the view; its image ids belong to `images` row by row.
        config: recipe, size and normalisation.
        channels_last: memory format of the result.

    Returns:
        (N, 3, S, S) float32.
    """
    recipe, size, count = RECIPES[config.recipe], config.size, len(images)
    device = images[0].device
    layout = torch.channels_last if channels_last else torch.contiguous_format
    views = torch.empty((count, 3, size, size), device=device, memory_format=layout)
    at_once = max(8, CHUNK_BYTES // (12 * size * size)) if device.type == "cpu" else count
    # Products of pixels keep float32 even if the caller trains in a lower precision.
    with torch.autocast(device.type, enabled=False):
        for rows in torch.arange(count).tensor_split(-(-count // at_once)):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            own_draws = dataclasses.replace(draws, image_ids=draws.image_ids[part])
            pixels = recipe(images[part], own_draws, config)
            views[part] = normalize_(pixels, config.mean, config.std)
    return views


def moco_v2(images: Images, draws: ViewDraws, config: ViewsConfig) -> Tensor:
    """Crop, flip, colour jitter, grayscale, blur; both views alike.

    Returns:
        (N, 3, S, S) float32 in [0, 1], as from every recipe.

    Source: Chen et al. 2020 (arXiv 2003.04297), `--aug-plus` of the published code.
    """
    views = _crop(images, draws, config)
    views = _jitter(views, draws, saturation=0.4)
    return _blur(views, draws, config, probability=0.5)


def simsiam(images: Images, draws: ViewDraws, config: ViewsConfig) -> Tensor:
    """The views of MoCo-v2.

    Source: Chen and He 2020 (arXiv 2011.10566); `blur: false` for CIFAR-10.
    """
    return moco_v2(images, draws, config)


def moco_v3(images: Images, draws: ViewDraws, config: ViewsConfig) -> Tensor:
    """BYOL's unequal views: view 1 is always blurred, view 2 seldom, but sometimes solarized.

    Source: Chen et al. 2021 (arXiv 2104.02057); `min_scale` is 0.2 for ResNets, 0.08 for ViTs.
    """
    views = _crop(images, draws, config)
    views = _jitter(views, draws, saturation=0.2)
    if draws.view == 1:
        return _blur(views, draws, config, probability=1.0)
    views = _blur(views, draws, config, probability=0.1)
    return solarize_(views, _chosen(draws.uniform("solarize", 1)[:, 0] < 0.2))


def textures(images: Images, draws: ViewDraws, config: ViewsConfig) -> Tensor:
    """Rotated crop and a random affine map of the colours, for the quickstart's `textures`.

    Whatever colour and background say about an image is destroyed, so that only the pattern is
    left to learn from.

    Raises:
        InputError: images that are not square, or of unequal size.
    """
    if not isinstance(images, Tensor) or images.shape[-1] != images.shape[-2]:
        raise InputError(
            "views.recipe: 'textures' needs square images of one size; use moco_v2, moco_v3 or "
            "simsiam"
        )
    draw = draws.uniform("window", 5)
    side = (config.min_scale + (1 - config.min_scale) * draw[:, 0]).sqrt()
    windows = rotate_and_crop(
        images.to(torch.float32),
        angle=math.radians(54) * (2 * draw[:, 1] - 1),
        side=side,
        centre=(2 * draw[:, 2:4] - 1) * (1 - side)[:, None],
        flip=draw[:, 4] < 0.5,
        size=config.size,
    )
    matrix, offset = texture_colours(draws.uniform("colours", 11))
    return colour_affine(windows, matrix / 255, offset)  # from [0, 255] in the same pass


def _crop(images: Images, draws: ViewDraws, config: ViewsConfig) -> Tensor:
    one_size = isinstance(images, Tensor)
    sizes = torch.tensor([image.shape[-2:] for image in (images[:1] if one_size else images)])
    draw = draws.uniform("crop", DRAWS + 1)
    boxes = random_resized_crop(
        draw[:, 1:], height=sizes[:, 0], width=sizes[:, 1], min_scale=config.min_scale
    )
    flip = draw[:, 0] < 0.5
    if isinstance(images, Tensor) and not prefer_one_at_a_time(
        images.device, max(images.shape[-2:])
    ):
        return crop_and_resize(images, boxes, flip, config.size)
    return crop_and_resize_each(list(images), boxes, flip, config.size)


def _jitter(views: Tensor, draws: ViewDraws, *, saturation: float) -> Tensor:
    """Colour jitter with probability 0.8, then grayscale with probability 0.2."""
    draw = draws.uniform("colour", 10)
    strength = torch.tensor([0.4, 0.4, saturation, 0.1])
    neutral = torch.tensor([1.0, 1.0, 1.0, 0.0])
    applied = draw[:, 8:9] < 0.8
    factors = torch.where(applied, neutral + strength * (2 * draw[:, :4] - 1), neutral)
    views = colour_jitter(views, factors, draw[:, 4:8].argsort(1))
    return grayscale_(views, _chosen(draw[:, 9] < 0.2))


def _blur(views: Tensor, draws: ViewDraws, config: ViewsConfig, *, probability: float) -> Tensor:
    """Gaussian blur of 0.1 to 2 pixels with a probability, unless switched off."""
    if not config.blur:
        return views
    draw = draws.uniform("blur", 2)
    rows = _chosen(draw[:, 0] < probability)
    blur_ = (
        gaussian_blur_each_ if prefer_one_at_a_time(views.device, config.size) else gaussian_blur_
    )
    return blur_(views, rows, 0.1 + 1.9 * draw[rows, 1])


def _chosen(mask: Tensor) -> Tensor:
    """Row numbers of a mask on the CPU; (N,) -> (R,)."""
    return mask.nonzero()[:, 0]


Recipe = Callable[[Images, ViewDraws, ViewsConfig], Tensor]

RECIPES: dict[str, Recipe] = {
    "moco_v2": moco_v2,
    "moco_v3": moco_v3,
    "simsiam": simsiam,
    "textures": textures,
}
