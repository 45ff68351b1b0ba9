from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decode import BadImageError
from linear_eval.errors import InputError
from linear_eval.images import EvalImages, ImageBatches, hold_in_memory


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


def test_held_batches_are_decoded_once_and_equal_the_originals() -> None:
    reads: list[int] = []

    def read(index: int) -> Tensor:
        reads.append(index)
        return _with_bad({2})(index)

    batches = ImageBatches(
        split=_split(7, read),
        images=EvalImages(resize=6, crop=5),
        batch_size=3,
        on_bad_image="skip",
    )
    expected = torch.cat([images for _, images in batches])
    reads.clear()
    held = hold_in_memory(batches)
    assert sorted(reads) == list(range(7))
    for _ in range(2):
        assert torch.equal(torch.cat([images for _, images in held]), expected)
    assert sorted(reads) == list(range(7))
    assert held.split.ids == ("image_0", "image_1", "image_3", "image_4", "image_5", "image_6")
    assert held.split.labels.tolist() == [0, 1, 0, 1, 2, 0]
    assert torch.equal(held.split.read(5), expected[5])


@pytest.mark.parametrize(("room", "is_held"), [(7 * 3 * 8 * 8, True), (7 * 3 * 8 * 8 - 1, False)])
def test_images_are_held_only_where_all_of_them_fit(room: int, is_held: bool) -> None:
    batches = ImageBatches(split=_split(7), images=EvalImages(), batch_size=3)
    assert (hold_in_memory(batches, room) is not batches) == is_held


def test_a_split_without_a_readable_image_is_an_error() -> None:
    split = _split(3, _with_bad({0, 1, 2}))
    batches = ImageBatches(split=split, images=EvalImages(), batch_size=2, on_bad_image="skip")
    with pytest.raises(InputError, match="not one could be read"):
        hold_in_memory(batches)
