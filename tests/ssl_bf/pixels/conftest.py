"""A small source of unequal images for the tests of packing and residency."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decode import BadImageError
from ssl_bf.pixels.source import Source


def image(index: int) -> Tensor:
    """Some pixels; extreme shapes among them."""
    sizes = [(30, 40), (40, 30), (1, 90), (200, 3), (24, 24)]
    generator = torch.Generator().manual_seed(index)
    shape = (3, *sizes[index % len(sizes)])
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def _make_source(
    count: int = 12,
    *,
    bad: Sequence[int] = (),
    fingerprint: str = "first",
    look_again: str | None = None,
    draw: Callable[[int], Tensor] = image,
) -> Source:
    """Images named after their numbers."""

    def read(index: int) -> Tensor:
        if index in bad:
            raise BadImageError(f"folder/{index}.jpg: cannot be decoded")
        return draw(index)

    split = ImageSplit(
        ids=tuple(f"folder/{i}.jpg" for i in range(count)),
        labels=torch.full((count,), -1),
        class_names=(),
        read=read,
        fingerprint=fingerprint,
    )
    later = Source(split, look_again or fingerprint, lambda: later)
    return Source(split, fingerprint, lambda: later)


@pytest.fixture
def make_source() -> Callable[..., Source]:
    """Make a source; see `_make_source`."""
    return _make_source
