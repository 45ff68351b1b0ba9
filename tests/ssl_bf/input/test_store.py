import logging
import threading
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decode import BadImageError
from ssl_bf.input.store import ImageStore


def image(index: int, height: int = 4, width: int = 5) -> Tensor:
    return torch.full((3, height, width), index, dtype=torch.uint8)


def make_split(
    count: int,
    *,
    bad: Sequence[int] = (),
    draw: Callable[[int], Tensor] = image,
    reads: list[int] | None = None,
) -> ImageSplit:
    def read(index: int) -> Tensor:
        if reads is not None:
            reads.append(index)
        if index in bad:
            raise BadImageError(f"folder/{index}.jpg: cannot be decoded")
        return draw(index)

    return ImageSplit(
        ids=tuple(f"folder/{i}.jpg" for i in range(count)),
        labels=torch.full((count,), -1),
        class_names=(),
        read=read,
        fingerprint="",
    )


def unequal(index: int) -> Tensor:
    return image(index, 4 + index % 2, 5)


def values(images: Tensor | list[Tensor]) -> list[int]:
    return [int(one[0, 0, 0]) for one in images]


def test_images_of_one_size_are_decoded_once_and_kept() -> None:
    reads: list[int] = []
    store = ImageStore(make_split(50, reads=reads), on_bad_image="error", memory_mib=1)
    assert store.pixels is not None
    assert store.pixels.shape == (50, 3, 4, 5)
    assert sorted(reads) == list(range(50))
    for _ in range(3):
        images, ids = store.read(torch.tensor([7, 7, 49, 0]))
        assert isinstance(images, Tensor)
        assert values(images) == ids.tolist() == [7, 7, 49, 0]
    assert len(reads) == 50


def test_pixels_that_the_split_holds_are_not_decoded_again() -> None:
    pixels = torch.stack([image(i) for i in range(6)])
    split = ImageSplit(
        ids=tuple("abcdef"),
        labels=torch.zeros(6, dtype=torch.int64),
        class_names=("x",),
        read=lambda _: pytest.fail("decoded"),
        fingerprint="",
        pixels=pixels,
    )
    store = ImageStore(split, on_bad_image="error", memory_mib=0)
    assert store.pixels is pixels
    assert len(store) == 6


def test_over_the_budget_images_are_decoded_at_every_use() -> None:
    reads: list[int] = []
    split = make_split(20, reads=reads, draw=lambda i: image(i, 300, 300))  # 5.2 MiB together
    store = ImageStore(split, on_bad_image="error", memory_mib=5)
    assert store.pixels is None
    reads.clear()
    for _ in range(2):
        images, ids = store.read(torch.tensor([3, 19, 3]))
        assert isinstance(images, Tensor)
        assert values(images) == ids.tolist() == [3, 19, 3]
    assert sorted(reads) == [3, 3, 3, 3, 19, 19]
    fits = ImageStore(split, on_bad_image="error", memory_mib=6)
    assert fits.pixels is not None


def test_images_of_unequal_size_come_as_a_list() -> None:
    store = ImageStore(make_split(10, draw=unequal), on_bad_image="error", memory_mib=100)
    assert store.pixels is None
    images, ids = store.read(torch.tensor([1, 2, 9]))
    assert isinstance(images, list)
    assert [one.shape[1] for one in images] == [5, 4, 5]
    assert values(images) == ids.tolist() == [1, 2, 9]
    same, _ = store.read(torch.tensor([2, 4]))
    assert isinstance(same, Tensor)


@pytest.mark.parametrize("draw", [image, unequal])
def test_a_bad_image_ends_the_run_with_its_path(draw: Callable[[int], Tensor]) -> None:
    with pytest.raises(BadImageError, match=r"^folder/5.jpg: "):
        store = ImageStore(make_split(8, bad=[5], draw=draw), on_bad_image="error", memory_mib=1)
        store.read(torch.arange(8))


def test_skipped_images_leave_the_index_and_the_numbers_of_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    store = ImageStore(make_split(9, bad=[0, 4, 8]), on_bad_image="skip", memory_mib=1)
    assert len(store) == 6
    images, ids = store.read(torch.arange(6))
    assert values(images) == ids.tolist() == [1, 2, 3, 5, 6, 7]
    assert sorted(store.bad_images) == [0, 4, 8]
    assert "folder/4.jpg" in caplog.text
    assert "6 in memory, 3 bad ones skipped" in caplog.text


def test_of_only_bad_images_nothing_is_left() -> None:
    store = ImageStore(make_split(3, bad=[0, 1, 2]), on_bad_image="skip", memory_mib=1)
    assert len(store) == 0


def test_decoded_at_use_a_bad_image_is_replaced_by_its_first_good_substitute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reads: list[int] = []
    split = make_split(10, bad=[3, 6, 7], draw=unequal, reads=reads)
    store = ImageStore(split, on_bad_image="skip", memory_mib=1)
    for _ in range(2):
        images, ids = store.read(
            torch.tensor([2, 3, 6]), substitutes=[iter([0]), iter([7, 6, 9, 1]), iter([8])]
        )
        assert values(images) == ids.tolist() == [2, 9, 8]
    assert reads.count(3) == 1  # known by then
    assert caplog.text.count("folder/3.jpg") == 1


def test_a_bad_image_without_a_good_substitute_raises_for_its_own_path() -> None:
    split = make_split(4, bad=[1, 2], draw=unequal)
    store = ImageStore(split, on_bad_image="skip", memory_mib=1)
    with pytest.raises(BadImageError, match=r"^folder/1.jpg: "):
        store.read(torch.tensor([1]), substitutes=[iter([2])])


def test_images_are_decoded_in_threads_but_only_a_few_ahead() -> None:
    names: set[str] = set()
    furthest = 0

    def draw(index: int) -> Tensor:
        nonlocal furthest
        names.add(threading.current_thread().name)
        furthest = max(furthest, index)
        return image(index, 4 + (index > 0))

    store = ImageStore(make_split(10_000, draw=draw), on_bad_image="error", memory_mib=1000)
    assert store.pixels is None  # given up at the second image
    assert all(name.startswith("decode") for name in names)
    assert furthest < 9_999
