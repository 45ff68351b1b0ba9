"""View recipes: one function per recipe, named after the paper it comes from.

A recipe draws with `ViewDraws` what is done to each image, for a whole batch and on the CPU; so it
belongs to (seed, epoch, view, image) and not to a batch. What was drawn is then applied (`Photos`,
`TextureWindows`), which draws nothing and never waits for the device. To add a recipe: one
function, its name in `ViewsConfig.recipe` and in RECIPES.

Shapes: N images of a batch, S x S pixels of a view.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from linear_eval.errors import InputError
from ssl_bf.input.batch_ops import normalize_into
from ssl_bf.input.colour_ops import NEUTRAL, texture_colours
from ssl_bf.input.crop_boxes import DRAWS, random_resized_crop
from ssl_bf.input.image_ops import prefer_one_at_a_time
from ssl_bf.input.packed_images import Images, PackedImages, device_of, sizes_of
from ssl_bf.input.photo_views import Photos, view_of_one
from ssl_bf.input.preparation import Preparation
from ssl_bf.input.texture_views import TextureWindows
from ssl_bf.input.uniform_views import write_compiled
from ssl_bf.input.view_draws import ViewDraws

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
    images: Images | PackedImages,
    draws: ViewDraws,
    config: ViewsConfig,
    *,
    channels_last: bool = False,
    compiled: bool = False,
) -> Tensor:
    """One normalised view of every image, on the device of the images.

    Args:
        images: (N, 3, H, W) uint8, N tensors (3, H_i, W_i) uint8, or N packed images.
        draws: names the view; its image ids belong to `images` row by row.
        config: recipe, size and normalisation.
        channels_last: memory format of the result.
        compiled: by `torch.compile`, which the first call waits for; not where a CPU works on one
            image at a time, and not for textures.

    Returns:
        (N, 3, S, S) float32.
    """
    size, count, device = config.size, len(images), device_of(images)
    if isinstance(images, PackedImages) and (device.type == "cpu" or images.share_a_size):
        images = images.images()
    drawn = RECIPES[config.recipe](sizes_of(images), draws, config)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    views = torch.empty((count, 3, size, size), device=device, memory_format=layout)
    # Products of pixels keep float32 even if the caller trains in a lower precision. Nothing made
    # in here leaves: `views` itself is an ordinary tensor.
    with torch.autocast(device.type, enabled=False), torch.inference_mode():
        if isinstance(drawn, Photos) and prefer_one_at_a_time(device, size):
            assert not isinstance(images, PackedImages)  # which a CPU does not work on
            for view, image, photo in zip(views, images, drawn.each(), strict=True):
                pixels = view_of_one(image, photo, size)
                normalize_into(view[None], pixels[None], config.mean, config.std)
            return views
        if compiled and isinstance(drawn, Photos) and drawn.blur_fits:
            write_compiled(views, images, drawn, config.mean, config.std)
            return views
        at_once = max(8, CHUNK_BYTES // (12 * size * size)) if device.type == "cpu" else count
        for start in range(0, count, at_once):
            part = slice(start, start + at_once)
            pixels = drawn[part].views(images[part], size)
            normalize_into(views[part], pixels, config.mean, config.std)
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

    Whatever colour and background say about an image is destroyed, so that only the pattern is
    left to learn from.

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


Recipe = Callable[[Tensor, ViewDraws, ViewsConfig], Photos | TextureWindows]

RECIPES: dict[str, Recipe] = {
    "moco_v2": moco_v2,
    "moco_v3": moco_v3,
    "simsiam": simsiam,
    "textures": textures,
}
