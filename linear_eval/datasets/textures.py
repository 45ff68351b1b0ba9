"""Procedural textures: ten classes told apart by pattern, never by colour or background.

Shapes: M images, R = 64 pixels rendered per side.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from linear_eval.datasets.dataset import (
    DatasetSettings,
    ImageSplit,
    MemoryReader,
    fingerprint_of,
)
from linear_eval.datasets.texture_patterns import PATTERNS, Floats

_RENDERED = 64  # pixels per side; pooled to half, so that edges are smooth
_CHUNK = 250  # images rendered at a time: about 50 MB
_MOST = 1_000_000  # images: they lie in memory, 3 GB
_RECIPE = "1"  # part of the fingerprint: change it with any change of a pixel
# Keeps both colours in [0, 1] although they are shifted to the mean of the disc: no pattern covers
# more than 0.65 of the disc with one of its two colours.
_CONTRAST = np.float32(0.5 / 0.65)
_MASK = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, kw_only=True)
class TexturesConfig(DatasetSettings):
    """Textures drawn from a seed: needs no files; 32 x 32 pixels.

    Attributes:
        seed: other seeds give other images, in train and test.
        train_images: 10 to a million; classes take turns, so their counts differ by one at most.
        test_images: likewise.
    """

    name: Literal["textures"] = "textures"
    seed: int = 0
    train_images: int = 4000
    test_images: int = 1000

    def __post_init__(self) -> None:
        """Refuse a seed of more than 64 bits, and too few or too many images."""
        super().__post_init__()
        if not 0 <= self.seed <= _MASK:
            raise ValueError(f"seed: must be between 0 and 2**64 - 1, got {self.seed}")
        for key, count in (
            ("train_images", self.train_images),
            ("test_images", self.test_images),
        ):
            if not len(PATTERNS) <= count <= _MOST:
                raise ValueError(f"{key}: must be {len(PATTERNS)} to {_MOST}, got {count}")

    def open_train(self) -> ImageSplit:
        """The train images, in memory."""
        return self._open("train", self.train_images)

    def open_test(self) -> ImageSplit:
        """The test images, in memory."""
        return self._open("test", self.test_images)

    def _open(self, split: Literal["train", "test"], count: int) -> ImageSplit:
        labels = np.arange(count) % len(PATTERNS)
        pixels = torch.from_numpy(draw_images(self.seed, split, labels))
        ids = tuple(f"textures/{split}/{row:06d}" for row in range(count))
        targets = torch.from_numpy(labels.astype(np.int64))
        content = f"recipe {_RECIPE}, seed {self.seed}".encode()
        return ImageSplit(
            ids=ids,
            labels=targets,
            class_names=tuple(PATTERNS),
            read=MemoryReader(pixels),
            fingerprint=fingerprint_of(self.name, ids, targets, content),
            pixels=pixels,
        )


def draw_images(seed: int, split: str, labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Draw image i of a split with the pattern `labels[i]`.

    Image i depends on (seed, split, i, labels[i]) alone. Colours, background and place of the disc
    do not even depend on the label: the pattern is all that differs between classes.

    Args:
        seed: of the data set.
        split: "train" or "test".
        labels: (M,) classes.

    Returns:
        (M, 3, 32, 32).
    """
    images = np.empty((len(labels), 3, _RENDERED // 2, _RENDERED // 2), dtype=np.uint8)
    key = int.from_bytes(hashlib.blake2b(f"{seed}/{split}".encode(), digest_size=8).digest())
    for start in range(0, len(labels), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(labels)))
        images[rows] = _render(_Draws(key, rows), labels[rows])
    return images


class _Draws:
    """Random numbers as a pure function of (key, image, number of the draw)."""

    def __init__(self, key: int, rows: NDArray[np.int64]) -> None:
        self._streams = _mixed(rows.astype(np.uint64) + np.uint64(1), key)  # (M,)
        self._used = 0

    def uniform(self, low: float, high: float, *shape: int) -> Floats:
        """(M, *shape) in [low, high)."""
        count = int(np.prod(shape, dtype=int))
        counters = np.arange(self._used + 1, self._used + 1 + count, dtype=np.uint64)
        self._used += count
        bits = _mixed(self._streams[:, None] + counters * np.uint64(0x9E3779B97F4A7C15), 0)
        unit = (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
        return (np.float32(low) + unit * np.float32(high - low)).reshape(len(unit), *shape)


def _mixed(values: NDArray[np.uint64], key: int) -> NDArray[np.uint64]:
    """A bijection that scatters neighbouring values. Source: splitmix64, Steele et al. 2014."""
    values = values ^ np.uint64(key)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _render(draws: _Draws, labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(M, 3, 32, 32)."""
    image = _background(draws)
    centre, radius = draws.uniform(-0.15, 0.15, 2, 1, 1), draws.uniform(0.9, 1.3, 1, 1)
    axis = _directions(draws)
    free = draws.uniform(0, 1, 3, 1, 1)
    mean, difference = _colours(draws)
    x, y = (ticks - centre[:, i] for i, ticks in enumerate(_grid()))
    inside = x * x + y * y < radius * radius
    u = axis[:, 0] * x + axis[:, 1] * y
    v = axis[:, 0] * y - axis[:, 1] * x
    pattern = np.empty_like(u)  # 0 or 1: which of the two colours
    for label, draw in enumerate(PATTERNS.values()):
        rows = labels == label
        pattern[rows] = draw(u[rows], v[rows], free[rows])
    # Centred on its mean inside the disc, so that the mean colour of the disc says nothing about
    # the pattern, whatever share of the area each of the two colours has.
    # Sums of 0 and 1 are exact, so an image does not depend on those drawn with it.
    share = (pattern * inside).sum((1, 2)) / inside.sum((1, 2), dtype=np.float32)
    texture = mean + (pattern - share[:, None, None])[:, None] * difference
    image = np.where(inside[:, None], texture, image)
    rows_pooled = image[:, :, ::2] + image[:, :, 1::2]
    pooled = (rows_pooled[..., ::2] + rows_pooled[..., 1::2]) / np.float32(4)
    return (pooled.clip(0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def _grid() -> tuple[Floats, Floats]:
    """Pixel centres, -1 to 1 across the image: x (1, R) and y (R, 1)."""
    ticks = (np.arange(_RENDERED, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / _RENDERED)
    return (ticks - 1)[None, :], (ticks - 1)[:, None]


def _directions(draws: _Draws) -> Floats:
    """(M, 2, 1, 1) unit vectors."""
    angles = draws.uniform(0, 1, 1, 1).astype(np.float64) * (2 * np.pi)
    return np.stack((np.cos(angles), np.sin(angles)), axis=1).astype(np.float32)


def _background(draws: _Draws) -> Floats:
    """(M, 3, R, R): a gradient between two colours with noise, and one blob of a third colour."""
    x, y = _grid()
    start, end, blob = (draws.uniform(0, 1, 3, 1, 1) for _ in range(3))
    axis = _directions(draws)
    ramp = (0.5 + 0.5 * (axis[:, 0] * x + axis[:, 1] * y)).clip(0, 1)[:, None]
    image = start + (end - start) * ramp
    image += draws.uniform(-0.2, 0.2, 3, _RENDERED, _RENDERED)
    centre, radius = draws.uniform(-1, 1, 2, 1, 1), draws.uniform(0.25, 0.5, 1, 1)
    covered = (x - centre[:, 0]) ** 2 + (y - centre[:, 1]) ** 2 < radius * radius
    return np.where(covered[:, None], blob, image)


def _colours(draws: _Draws) -> tuple[Floats, Floats]:
    """Mean of the disc's two random colours, and their difference: (M, 3, 1, 1) each."""
    first, second, third = (draws.uniform(0, 1, 3, 1, 1) for _ in range(3))
    # The farther of two candidates: few images are left whose pattern cannot be seen.
    squares = [((other - first) ** 2).sum(1, keepdims=True) for other in (second, third)]
    second = np.where(squares[0] > squares[1], second, third)
    return (first + second) / 2, (first - second) * _CONTRAST
