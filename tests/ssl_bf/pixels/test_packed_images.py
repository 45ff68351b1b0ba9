"""Tests of ssl_bf.pixels.packed_images against a list of images."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from ssl_bf.pixels.packed_images import LooseImages, PackedImages


def images_of(sizes: list[tuple[int, int]]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes
    ]


UNEQUAL = [(4, 5), (1, 300), (4, 5), (6, 2), (4, 5), (300, 1)]


@pytest.mark.parametrize("sizes", [[(4, 5)] * 6, UNEQUAL], ids=["one size", "unequal"])
@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4, 5], [4, 0, 0, 2], [5], [3, 1]])
@pytest.mark.parametrize("how", ["selected", "copied", "in threads"])
def test_images_come_out_as_they_went_in(
    sizes: list[tuple[int, int]], rows: list[int], how: str
) -> None:
    images = images_of(sizes)
    packed = PackedImages.of(images)[torch.tensor(rows)]
    if how != "selected":
        with ThreadPoolExecutor(2) as threads:
            packed = packed.compact(threads=threads if how == "in threads" else None)
        assert len(packed.data) == sum(images[row].numel() for row in rows)
    found = packed.images()
    assert isinstance(found, Tensor) == (len({images[row].shape for row in rows}) == 1)
    for row, image in zip(rows, found, strict=True):
        assert torch.equal(image, images[row])
        assert image.permute(1, 2, 0).is_contiguous()


def test_images_that_are_not_there_take_no_room() -> None:
    images = images_of([(4, 5)] * 2)
    packed = PackedImages.of([images[0], torch.empty((3, 0, 0), dtype=torch.uint8), images[1]])
    found = packed[torch.tensor([2, 0])].images()
    assert torch.equal(found[0], images[1])
    assert torch.equal(found[1], images[0])


def test_in_memory_nothing_is_copied_before_it_must_be() -> None:
    packed = PackedImages.of(images_of(UNEQUAL))
    packed.data.zero_()
    assert not any(bool(image.any()) for image in packed[torch.tensor([3, 5])].images())


def test_loose_images_are_not_copied_on_a_cpu() -> None:
    images = images_of(UNEQUAL)
    loose = LooseImages(images)
    assert loose.to(torch.device("cpu")) is loose
    found = loose.for_views()
    assert all(one is other for one, other in zip(found, images, strict=True))


def test_loose_images_of_one_size_or_for_another_device_lie_in_one_buffer() -> None:
    images = images_of([(4, 5)] * 3)
    batch = LooseImages(images).for_views()
    assert isinstance(batch, Tensor)
    assert torch.equal(batch, torch.stack(images))
    moved = LooseImages(images_of(UNEQUAL)).to(torch.device("meta"))
    assert isinstance(moved, PackedImages)
    assert moved.data.is_meta


def test_what_views_are_made_of_stays_packed_only_on_a_gpu() -> None:
    packed = PackedImages.of(images_of(UNEQUAL))
    assert isinstance(packed.for_views(), list)
    moved = packed.to(torch.device("meta"))
    assert moved.for_views() is moved
    assert isinstance(moved[torch.tensor([0, 2])].for_views(), Tensor)
