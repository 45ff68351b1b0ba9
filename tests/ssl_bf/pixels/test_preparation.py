"""Tests of ssl_bf.pixels.preparation."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_bf.pixels.preparation import Preparation, decoded


def noise(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def test_without_settings_the_pixels_stay_and_their_channels_lie_together() -> None:
    image = noise(7, 9)
    prepared = Preparation().prepare(image)
    assert torch.equal(prepared, image)
    assert prepared.permute(1, 2, 0).is_contiguous()


@pytest.mark.parametrize(
    ("size", "reduced"),
    [((40, 60), (20, 30)), ((33, 47), (20, 28)), ((300, 21), (285, 20)), ((21, 4000), (20, 3809))],
)
def test_the_short_side_is_reduced_as_by_an_antialiased_resize(
    size: tuple[int, int], reduced: tuple[int, int]
) -> None:
    image = noise(*size)
    prepared = Preparation(short_side=20).prepare(image)
    assert prepared.shape[1:] == reduced
    exact = F.interpolate(image[None].float(), reduced, mode="bilinear", antialias=True)[0]
    assert (prepared - exact).abs().max() < 1.5


@pytest.mark.parametrize("size", [(20, 30), (19, 5000), (1, 1)])
def test_smaller_images_are_never_enlarged(size: tuple[int, int]) -> None:
    assert torch.equal(Preparation(short_side=20).prepare(noise(*size)), noise(*size))


def test_a_jpeg_is_what_its_bytes_decode_to_and_its_quality_matters() -> None:
    image = F.interpolate(noise(8, 12)[None], (64, 96), mode="bilinear", antialias=True)[0]
    errors = []
    for quality in (30, 95):
        preparation = Preparation(short_side=48, jpeg_quality=quality)
        prepared = preparation.prepare(image)
        assert prepared.shape == (3, 48, 72)
        assert torch.equal(prepared, decoded(preparation.encode(image)))
        exact = Preparation(short_side=48).prepare(image)
        errors.append(float((prepared.float() - exact.float()).abs().mean()))
    assert 0 < errors[1] < errors[0] < 20


@pytest.mark.parametrize("setting", [{"short_side": 1}, {"jpeg_quality": 0}, {"jpeg_quality": 101}])
def test_values_without_meaning_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        Preparation(**setting)
