from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decode import BadImageError
from linear_eval.images.batches import EvalImages, ImageBatches
from linear_eval.system.errors import InputError


def _random_image(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def _split(count: int, read: Callable[[int], Tensor] | None = None) -> ImageSplit:
    return ImageSplit(
        ids=tuple(f"image_{i}" for i in range(count)),
        labels=torch.arange(count) % 3,
        class_names=("a", "b", "c"),
        read=read or (lambda i: _random_image(8, 8, i)),
        fingerprint="f",
    )


def _with_bad(bad: set[int]) -> Callable[[int], Tensor]:
    def read(index: int) -> Tensor:
        if index in bad:
            raise BadImageError(f"image_{index}: broken")
        return _random_image(8, 8, index)

    return read


@pytest.mark.parametrize(
    ("height", "width"), [(50, 70), (70, 50), (33, 32), (20, 90), (40, 40), (49, 7), (83, 61)]
)
def test_the_transform_is_torchvisions_resize_and_centre_crop(height: int, width: int) -> None:
    image = _random_image(height, width)[None]
    expected = reference.center_crop(reference.resize(image, [40], antialias=True), [31, 31])
    assert torch.equal(EvalImages(resize=40, crop=31).apply(image), expected)


def test_the_resize_agrees_with_pillow_within_rounding() -> None:
    image = _random_image(50, 70)
    expected = reference.pil_to_tensor(reference.resize(reference.to_pil_image(image), [23]))
    found = EvalImages(resize=23).apply(image[None])[0]
    assert found.shape == expected.shape
    # both work in fixed point, with different intermediate roundings
    assert int((found.int() - expected.int()).abs().max()) <= 1


def test_without_sizes_images_stay_as_they_are() -> None:
    image = _random_image(5, 9)[None]
    assert torch.equal(EvalImages().apply(image), image)


@pytest.mark.parametrize("values", [{"resize": 0}, {"crop": -1}, {"resize": 32, "crop": 33}])
def test_impossible_sizes_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"^(resize|crop): must be"):
        EvalImages(**values)


@pytest.mark.parametrize("batch_size", [1, 4, 10, 11])
@pytest.mark.parametrize("in_memory", [True, False])
def test_batches_hold_every_image_once_and_in_order(batch_size: int, in_memory: bool) -> None:
    split = _split(10)
    pixels = torch.stack([split.read(i) for i in range(10)])
    if in_memory:
        split = replace(split, pixels=pixels)
    batches = ImageBatches(split=split, images=EvalImages(), batch_size=batch_size)
    index, images = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert index.tolist() == list(range(10))
    assert torch.equal(images, pixels)
    assert len(list(batches)) == len(batches)


def test_a_bad_image_is_an_error_that_names_it() -> None:
    batches = ImageBatches(split=_split(9, _with_bad({5})), images=EvalImages(), batch_size=2)
    with pytest.raises(BadImageError, match="image_5: broken"):
        list(batches)


def test_bad_images_are_skipped_where_asked() -> None:
    split = _split(9, _with_bad({0, 4, 5, 8}))
    batches = ImageBatches(split=split, images=EvalImages(), batch_size=2, on_bad_image="skip")
    index = [i for index, _ in batches for i in index.tolist()]
    assert index == [1, 2, 3, 6, 7]


@pytest.mark.parametrize("batch_size", [1, 8])
def test_images_of_unequal_size_are_named_with_the_way_out(batch_size: int) -> None:
    split = _split(4, lambda i: _random_image(8, 8 + (i == 3)))
    batches = ImageBatches(split=split, images=EvalImages(), batch_size=batch_size)
    with pytest.raises(
        InputError, match=r"'image_0' has 8 x 8 .*'image_3' has 9 x 8 .*images.resize"
    ):
        list(batches)


def test_a_crop_larger_than_the_image_names_the_image() -> None:
    batches = ImageBatches(split=_split(2), images=EvalImages(crop=9), batch_size=2)
    with pytest.raises(InputError, match=r"^image_0: images.crop: 9 does not fit .* 8 x 8"):
        list(batches)


@pytest.mark.parametrize("in_memory", [True, False])
def test_batches_from_a_row_on_are_the_last_ones_of_all(in_memory: bool) -> None:
    split = _split(10)
    if in_memory:
        split = replace(split, pixels=torch.stack([split.read(i) for i in range(10)]))
    batches = ImageBatches(split=split, images=EvalImages(), batch_size=4)
    everything = list(batches)
    for first in (0, 4, 8):
        rest = list(batches.from_row(first))
        assert [index.tolist() for index, _ in rest] == [
            index.tolist() for index, _ in everything[first // 4 :]
        ]
        assert all(
            torch.equal(found[1], wanted[1])
            for found, wanted in zip(rest, everything[first // 4 :], strict=True)
        )
    assert list(batches.from_row(10)) == []
