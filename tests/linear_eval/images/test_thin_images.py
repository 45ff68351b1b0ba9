"""Thin images cost what others cost, and become what they would become. Run: pytest THIS_FILE."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from linear_eval.datasets import ImageFolderConfig
from linear_eval.datasets.decode import BadImageError
from linear_eval.images.batches import EvalImages, ImageBatches
from linear_eval.images.thin_images import THIN, resized_centre
from linear_eval.own_images.contact_sheet import TILE, thumbnail


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, 3, height, width), generator=generator, dtype=torch.uint8)


def whole_way(images: Tensor, resize: int, crop: int) -> Tensor:
    centre: Tensor = TF.center_crop(TF.resize(images, [resize], antialias=True), [crop, crop])
    return centre


@given(
    short=st.integers(1, 60),
    factor=st.integers(THIN + 1, 60),
    resize=st.integers(4, 80),
    cut=st.integers(0, 40),
    is_tall=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_centre_of_thin_images_is_that_of_the_whole_within_a_level(
    short: int, factor: int, resize: int, cut: int, is_tall: bool
) -> None:
    long = short * factor + short // 2
    images = noise(long, short) if is_tall else noise(short, long)
    crop = max(1, resize - cut)
    found = EvalImages(resize, crop).apply(images)
    difference = (found.int() - whole_way(images, resize, crop).int()).abs()
    assert found.shape == (1, 3, crop, crop)
    assert int(difference.max()) <= 1


@given(height=st.integers(20, 90), width=st.integers(20, 90), resize=st.integers(5, 120))
@settings(max_examples=60, deadline=None)
def test_the_long_side_follows_torchvision_to_the_pixel(
    height: int, width: int, resize: int
) -> None:
    images = noise(height, width)
    expected = TF.resize(images, [resize], antialias=True)
    assert torch.equal(EvalImages(resize).apply(images), expected)


def test_the_long_side_is_cut_and_not_rounded() -> None:
    assert EvalImages(256).apply(noise(427, 640)).shape[-2:] == (256, 383)  # 383.7
    assert EvalImages(224).apply(noise(500, 333)).shape[-2:] == (336, 224)  # 336.3
    assert EvalImages(32).apply(noise(64, 127)).shape[-2:] == (32, 63)  # 63.5


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (2, 9000), (30, 20_000)])
def test_nothing_larger_than_the_image_or_the_crop_is_ever_made(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    interpolate = F.interpolate

    def watched(images: Tensor, *arguments: Any, **options: Any) -> Tensor:
        result = interpolate(images, *arguments, **options)
        made.append(result.numel())
        return result

    monkeypatch.setattr(F, "interpolate", watched)
    found = EvalImages(256, 224).apply(noise(*size))
    assert found.shape == (1, 3, 224, 224)
    assert max(made, default=0) <= found.numel()


def test_an_image_of_49_million_pixels_in_one_row() -> None:
    row = torch.arange(49_000_000, dtype=torch.int64).to(torch.uint8)
    image = row.view(1, 1, 1, -1).expand(1, 3, 1, -1)
    found = EvalImages(256, 224).apply(image)
    middle = int(row[24_500_000])
    assert (found.int() - middle).abs().max() <= 2
    assert thumbnail(image[0]).shape == (3, 1, TILE)


def test_a_large_thin_image_is_seen_where_its_middle_is() -> None:
    image = torch.zeros(1, 3, 4, 400, dtype=torch.uint8)
    image[..., 200:] = 255
    found = resized_centre(image, (8, 800), 8)
    assert found[0, 0, 0].tolist() == whole_way(image, 8, 8)[0, 0, 0].tolist()
    assert found[0, 0, 0, 0] == 0
    assert found[0, 0, 0, -1] == 255


@pytest.mark.parametrize("on_bad_image", ["error", "skip"])
def test_without_a_crop_an_enormous_image_is_one_line_or_skipped(
    tmp_path: Path, on_bad_image: Any
) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "a" / "1.png")
    Image.new("RGB", (20_000, 1)).save(tmp_path / "a" / "2.png")
    batches = ImageBatches(
        split=ImageFolderConfig(root=str(tmp_path)).open_train(),
        images=EvalImages(resize=256),
        batch_size=2,
        on_bad_image=on_bad_image,
    )
    if on_bad_image == "skip":
        assert [index.tolist() for index, _ in batches] == [[0]]
        return
    with pytest.raises(BadImageError, match=r"^a/2.png: images.resize: 256 makes 5120000 x 256"):
        list(batches)
