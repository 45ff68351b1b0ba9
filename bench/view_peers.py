"""MoCo-v2 views as AlbumentationsX makes them, and as one writes them by hand with OpenCV.

AlbumentationsX is under the AGPL: it is measured where `pip install -e '.[bench]'` has brought it,
and nothing that is shipped imports it. Both work on uint8 pixels, one image at a time.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_bf.views.recipes import ViewsConfig

Pixels = NDArray[np.uint8]  # (H, W, 3)
Views = Callable[[], list[Tensor]]


def peers(images: Tensor, config: ViewsConfig) -> dict[str, Views]:
    """What is installed: views 1 and 2 of all images (N, 3, H, W) uint8, float32 in [0, 1] each."""
    if find_spec("albumentations") is None or find_spec("cv2") is None:
        print("AlbumentationsX and OpenCV are not measured: pip install -e '.[bench]' brings them")
        return {}
    cv2: Any = import_module("cv2")
    cv2.setNumThreads(torch.get_num_threads())
    pictures = [image.permute(1, 2, 0).contiguous().numpy() for image in images]

    def made_by(transform: Callable[[Pixels], Tensor]) -> Views:
        return lambda: [torch.stack([transform(each) for each in pictures]) for _ in range(2)]

    return {
        "AlbumentationsX, area": made_by(_albumentations(config, cv2.INTER_AREA)),
        "AlbumentationsX, linear": made_by(_albumentations(config, cv2.INTER_LINEAR)),
        "OpenCV by hand": made_by(_by_hand(config)),
    }


def _albumentations(config: ViewsConfig, interpolation: Any) -> Callable[[Pixels], Tensor]:
    os.environ.update(NO_ALBUMENTATIONS_UPDATE="1", ALBUMENTATIONS_NO_TELEMETRY="1")
    album: Any = import_module("albumentations")
    size = (config.size, config.size)
    steps = [
        album.RandomResizedCrop(size, scale=(config.min_scale, 1.0), interpolation=interpolation),
        album.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.1), p=0.8),
        album.ToGray(p=0.2),
        album.GaussianBlur(sigma_range=(0.1, 2.0), p=0.5 if config.blur else 0.0),
        album.HorizontalFlip(p=0.5),
    ]
    transform = album.Compose(steps, seed=0)
    return lambda pixels: _to_tensor(transform(image=pixels)["image"])


def _by_hand(config: ViewsConfig) -> Callable[[Pixels], Tensor]:
    """The fewest calls of OpenCV that draw the same distribution."""
    cv2: Any = import_module("cv2")
    draw, size = random.Random(0), (config.size, config.size)
    every = np.arange(256, dtype=np.float32)

    def table(values: Any) -> Pixels:
        levels: Pixels = np.clip(values + 0.5, 0, 255).astype(np.uint8)
        return levels

    def brightness(view: Pixels) -> Any:
        return cv2.LUT(view, table(every * np.float32(draw.uniform(0.6, 1.4))))

    def contrast(view: Pixels) -> Any:
        mean, factor = cv2.cvtColor(view, cv2.COLOR_RGB2GRAY).mean(), draw.uniform(0.6, 1.4)
        return cv2.LUT(view, table((every - np.float32(mean)) * np.float32(factor) + mean))

    def saturation(view: Pixels) -> Any:
        factor = draw.uniform(0.6, 1.4)
        return cv2.addWeighted(view, factor, _gray(view), 1 - factor, 0)

    def hue(view: Pixels) -> Any:
        turned = cv2.cvtColor(view, cv2.COLOR_RGB2HSV_FULL)  # its hue wraps round at 256
        turned[..., 0] += np.uint8(round(draw.uniform(-0.1, 0.1) * 256) % 256)
        return cv2.cvtColor(turned, cv2.COLOR_HSV2RGB_FULL)

    def transform(pixels: Pixels) -> Tensor:
        top, left, height, width = _crop(draw, pixels.shape[0], pixels.shape[1], config.min_scale)
        view: Any = pixels[top : top + height, left : left + width]
        view = cv2.resize(view, size, interpolation=cv2.INTER_AREA)
        if draw.random() < 0.8:
            for change in draw.sample((brightness, contrast, saturation, hue), 4):
                view = change(view)
        if draw.random() < 0.2:
            view = _gray(view)
        if config.blur and draw.random() < 0.5:
            view = cv2.GaussianBlur(view, (0, 0), draw.uniform(0.1, 2.0))
        if draw.random() < 0.5:
            view = cv2.flip(view, 1)
        return _to_tensor(view)

    return transform


def _crop(
    draw: random.Random, height: int, width: int, min_scale: float
) -> tuple[int, int, int, int]:
    """A box of torchvision's RandomResizedCrop: top, left, height, width."""
    for _ in range(10):
        area = height * width * draw.uniform(min_scale, 1.0)
        ratio = math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if w <= width and h <= height:
            return draw.randint(0, height - h), draw.randint(0, width - w), h, w
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def _gray(view: Pixels) -> Any:
    cv2: Any = import_module("cv2")
    return cv2.cvtColor(cv2.cvtColor(view, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _to_tensor(view: Pixels) -> Tensor:
    """(S, S, 3) uint8 -> (3, S, S) float32 in [0, 1]."""
    return torch.from_numpy(view.copy()).permute(2, 0, 1).to(torch.float32).div_(255)
