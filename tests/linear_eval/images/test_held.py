import pytest
import torch
from torch import Tensor

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decode import BadImageError
from linear_eval.images.batches import EvalImages, ImageBatches
from linear_eval.images.held import hold_in_memory
from linear_eval.system.errors import InputError


class _Source:
    """Images of 8 x 8 pixels that counts who asks for them."""

    def __init__(self, bad: set[int]) -> None:
        self.bad = bad
        self.reads: list[int] = []

    def __call__(self, index: int) -> Tensor:
        self.reads.append(index)
        if index in self.bad:
            raise BadImageError(f"image_{index}: broken")
        generator = torch.Generator().manual_seed(index)
        return torch.randint(0, 256, (3, 8, 8), generator=generator, dtype=torch.uint8)


def _batches(source: _Source) -> ImageBatches:
    split = ImageSplit(
        ids=tuple(f"image_{i}" for i in range(7)),
        labels=torch.arange(7) % 3,
        class_names=("a", "b", "c"),
        read=source,
        fingerprint="f",
    )
    images = EvalImages(resize=6, crop=5)
    return ImageBatches(split=split, images=images, batch_size=3, on_bad_image="skip")


@pytest.mark.parametrize("bad", [set(), {2}, {0, 3, 4, 5}])
def test_images_are_decoded_at_the_first_look_and_never_again(bad: set[int]) -> None:
    expected = list(_batches(_Source(bad)))
    source = _Source(bad)
    held = hold_in_memory(_batches(source))
    assert source.reads == []
    for first in (0, 0, 3):
        found = list(held.from_row(first))
        for (index, images), (wanted, original) in zip(found, expected[-len(found) :], strict=True):
            assert torch.equal(index, wanted)
            assert torch.equal(images, original)
    assert sorted(source.reads) == list(range(7))


def test_the_split_stays_what_it_was() -> None:
    batches = _batches(_Source({2}))
    held = hold_in_memory(batches)
    list(held)
    assert held.split is batches.split
    assert held.images == batches.images


def test_a_part_is_taken_from_memory_once_everything_was_seen() -> None:
    source = _Source({2})
    held = hold_in_memory(_batches(source))
    order = torch.tensor([6, 2, 0])
    for look in range(2):
        source.reads.clear()
        found = [(index.tolist(), images) for index, images in held.select(order)]
        assert [index for index, _ in found] == [[0, 2]]
        assert torch.equal(
            found[0][1][0], EvalImages(resize=6, crop=5).apply(_Source(set())(6)[None])[0]
        )
        assert bool(source.reads) == (look == 0)
        list(held)


@pytest.mark.parametrize(("room", "looks"), [(7 * 3 * 5 * 5, 1), (7 * 3 * 5 * 5 - 1, 2)])
def test_images_are_held_only_where_all_of_them_fit(room: int, looks: int) -> None:
    source = _Source(set())
    held = hold_in_memory(_batches(source), room)
    assert [len(list(held)) for _ in range(2)] == [3, 3]
    assert len(source.reads) == 7 * looks


def test_an_interrupted_look_holds_nothing_in_part() -> None:
    source = _Source(set())
    held = hold_in_memory(_batches(source))
    next(iter(held))
    assert [i for index, _ in held for i in index.tolist()] == list(range(7))


def test_an_error_of_the_first_look_is_that_of_the_images() -> None:
    batches = _batches(_Source(set()))
    held = hold_in_memory(
        ImageBatches(split=batches.split, images=EvalImages(crop=9), batch_size=2)
    )
    with pytest.raises(InputError, match=r"^image_0: images.crop: 9 does not fit"):
        list(held)
