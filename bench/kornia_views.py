"""Two 224 px views of images in GPU memory: ours and kornia's. Run: python -m bench.kornia_views.

Both draw the same distributions: crop, flip, colour jitter, grayscale, blur, normalisation, each
image by itself. kornia crops in two ways: `slice`, its default, and `resample`; both are measured.
It needs images of one size; ours may be unequal, as a store of photographs gives them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.options import lacks_gpu, parse
from bench.rounds import compare
from bench.views import BLACK, WHITE, alike, random_images
from linear_eval.images.crop_boxes import MAX_RATIO
from ssl_bf.pixels.packed_images import PackedImages
from ssl_bf.views.batch_ops import BLUR_RADIUS
from ssl_bf.views.recipes import ViewsConfig, make_view
from ssl_bf.views.view_draws import ViewDraws

# kornia does not antialias: crops that are hardly larger than a view look alike all the same.
SIDE = {64: 73, 224: 256}


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Compare views of the same pixels, uint8, on one device."""
    options = parse("Two MoCo-v2 views of images in GPU memory against kornia.", argv)
    if lacks_gpu(options):
        return []
    count, size = (48, 64) if options.quick else (256, 224)
    config = ViewsConfig(recipe="moco_v2", size=size, mean=BLACK, std=WHITE)
    images = random_images(count, SIDE[size], SIDE[size]).to(options.device)
    stored = images.contiguous(memory_format=torch.channels_last)  # as our stores keep them
    return compare(
        "kornia_views",
        {
            "ours": our_views(stored, config),
            "ours, compiled": our_views(stored, config, compiled=True),
            "ours, unequal sizes": our_views(of_unequal_size(images), config),
            "kornia, slice": kornia_views(images, config, "slice"),
            "kornia, resample": kornia_views(images, config, "resample"),
        },
        check=alike,
        options=options,
        facts={"images": count, "side": SIDE[size], "size": size},
        flop=2.0 * count * 3 * size * size * 4,  # two taps in both directions
    )


def our_views(
    images: Tensor | PackedImages, config: ViewsConfig, *, compiled: bool = False
) -> Callable[[], list[Tensor]]:
    """Views 1 and 2 of all images, (N, 3, S, S) each."""
    draws = [ViewDraws(0, 0, view, torch.arange(len(images))) for view in (1, 2)]
    return lambda: [make_view(images, draw, config, compiled=compiled) for draw in draws]


def of_unequal_size(images: Tensor) -> PackedImages:
    """The same without up to three of their last rows."""
    height = images.shape[2]
    shorter = [image[:, : height - i % 4].cpu() for i, image in enumerate(images)]
    return PackedImages.of(shorter).to(images.device)


def kornia_views(images: Tensor, config: ViewsConfig, cropping: str) -> Callable[[], list[Tensor]]:
    """The same from a sequence of kornia's augmentations."""
    from kornia import augmentation as kornia

    shape, blur = (config.size, config.size), 2 * BLUR_RADIUS + 1
    augment = kornia.AugmentationSequential(
        kornia.RandomResizedCrop(
            shape,
            scale=(config.min_scale, 1.0),
            ratio=(1 / MAX_RATIO, MAX_RATIO),
            cropping_mode=cropping,
        ),
        kornia.RandomHorizontalFlip(p=0.5),
        kornia.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        kornia.RandomGrayscale(p=0.2),
        kornia.RandomGaussianBlur((blur, blur), (0.1, 2.0), p=0.5),
        kornia.Normalize(torch.tensor(config.mean), torch.tensor(config.std)),
        data_keys=["input"],
    ).to(images.device)
    torch.manual_seed(0)

    def views() -> list[Tensor]:
        return [augment(images.float() / 255) for _ in range(2)]

    return views


if __name__ == "__main__":
    main()
