"""Two random views of every image: ours, lightly's and others'. Run: python -m bench.views."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from bench.options import parse
from bench.rounds import compare
from bench.view_peers import peers
from ssl_bf.choices.allocator import keep_freed_memory
from ssl_bf.views.lightly_views import lightly_transform
from ssl_bf.views.recipes import ViewsConfig, make_view
from ssl_bf.views.view_draws import ViewDraws

BLACK, WHITE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)  # normalised by these, views stay in [0, 1]
SYSTEMATIC = 0.03  # of a mean: PIL approximates the blur and rounds after every operation
SPREAD = 0.1  # of a deviation, likewise


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Compare at 32 px without blur (CIFAR-10) and at 224 px with it, there with others as well."""
    options = parse(
        "Two MoCo-v2 views of images in memory against lightly's transform and others'.", argv
    )
    if options.device == "cpu":
        keep_freed_memory()  # as ssl_bf.train does; lightly's profits as well
    rows = []
    for size, height, width, count, blur in ((32, 32, 32, 512, False), (224, 256, 341, 96, True)):
        config = ViewsConfig(recipe="moco_v2", size=size, blur=blur, mean=BLACK, std=WHITE)
        images = random_images(24 if options.quick else count, height, width)
        rows += compare(
            f"views_{size}",
            two_views(images, config, options.device) | (peers(images, config) if blur else {}),
            check=alike,
            options=options,
            facts={"images": len(images), "height": height, "width": width, "size": size},
            flop=2.0 * len(images) * 3 * size * size * 4,  # two taps in both directions
        )
    return rows


def random_images(count: int, height: int, width: int) -> Tensor:
    """(N, 3, H, W) uint8 on the CPU: coloured blobs under noise."""
    generator = torch.Generator().manual_seed(0)
    blobs = torch.rand(count, 3, 6, 6, generator=generator)
    smooth = F.interpolate(blobs, (height, width), mode="bicubic")
    noise = torch.randn(smooth.shape, generator=generator)
    return (255 * smooth + 30 * noise).clamp_(0, 255).to(torch.uint8)


def two_views(
    images: Tensor, config: ViewsConfig, device: str
) -> dict[str, Callable[[], list[Tensor]]]:
    """Variants from pixels in the layout that each wants, to views 1 and 2 of all images."""
    ids = torch.arange(len(images))
    # as a store gives them: pixel by pixel, and photographs, which differ in size, one by one
    pixels: Any = images.to(device).contiguous(memory_format=torch.channels_last)
    if config.size > 32:
        pixels = list(pixels)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    transform = lightly_transform(config)

    def ours() -> list[Tensor]:
        return [make_view(pixels, ViewDraws(0, 0, view, ids), config) for view in (1, 2)]

    def lightly() -> list[Tensor]:
        pairs = [transform(picture) for picture in pictures]
        return [torch.stack(views) for views in zip(*pairs, strict=True)]

    return {"ours": ours, "lightly": lightly}


def alike(ours: list[Tensor], theirs: list[Tensor]) -> str:
    """Whether both are drawn alike: brightness, contrast, colour and sharpness of the views.

    Compared are means and deviations over views.
    """
    measured = zip(_statistics(torch.cat(ours)), _statistics(torch.cat(theirs)), strict=True)
    for name, (x, y) in zip(STATISTICS, measured, strict=True):
        error = ((x.var() + y.var()) / len(x)).sqrt()
        if (x.mean() - y.mean()).abs() > 4 * error + SYSTEMATIC * y.mean().abs():
            return f"{name} {x.mean():.4f} and {y.mean():.4f}"
        # a stronger jitter keeps the means; 4 standard errors of a deviation's logarithm, and more
        if (x.std() / y.std()).log().abs() > 4 / math.sqrt(len(x)) + SPREAD:
            return f"deviation of {name} {x.std():.4f} and {y.std():.4f}"
    return ""


STATISTICS = ("red", "green", "blue", "contrast", "colour", "gray views", "sharpness")


def _statistics(views: Tensor) -> list[Tensor]:
    """(2N, 3, S, S) -> for each of `STATISTICS` a value per view."""
    views = views.cpu()
    channels = views.mean((2, 3)).unbind(1)
    colour = (views.amax(1) - views.amin(1)).mean((1, 2))
    sharpness = views.diff(dim=3).abs().mean((1, 2, 3))
    gray = (colour < 1e-3).float()
    return [*channels, views.std((1, 2, 3)), colour, gray, sharpness]


if __name__ == "__main__":
    main()
