import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as reference

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.images.batches import EvalImages, ImageBatches
from linear_eval.images.crop_boxes import crop_box
from linear_eval.images.train_views import MIN_SCALE, TrainView

SCALE, RATIO = [0.08, 1.0], [3 / 4, 4 / 3]


def _image(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def _split(count: int) -> ImageSplit:
    return ImageSplit(
        ids=tuple(f"image_{i}" for i in range(count)),
        labels=torch.arange(count),
        class_names=tuple(map(str, range(count))),
        read=lambda i: _image(20 + i % 3, 30, i),
        fingerprint="f",
    )


@pytest.mark.parametrize(("height", "width"), [(40, 60), (61, 33), (8, 9), (1, 1)])
def test_a_view_is_torchvisions_resized_crop_and_mirror_of_the_drawn_box(
    height: int, width: int
) -> None:
    image = _image(height, width)
    mirrored = 0
    for epoch in range(20):
        view = TrainView(size=24, seed=3, epoch=epoch)
        draw = view._generator("a")
        top, left, box_height, box_width = crop_box(height, width, MIN_SCALE, draw)
        expected = reference.resized_crop(
            image, top, left, box_height, box_width, [24, 24], antialias=True
        )
        if draw.random() < 0.5:
            expected = reference.horizontal_flip(expected)
            mirrored += 1
        assert torch.equal(view.apply(image, "a"), expected)
    assert 0 < mirrored < 20


@pytest.mark.parametrize(("height", "width"), [(50, 80), (30, 100), (64, 64)])
def test_boxes_are_distributed_as_torchvisions(height: int, width: int) -> None:
    count = 4000
    draw = random.Random(0)
    found = torch.tensor([crop_box(height, width, MIN_SCALE, draw) for _ in range(count)]).double()
    image = torch.zeros(3, height, width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        wanted = torch.tensor(
            [RandomResizedCrop.get_params(image, SCALE, RATIO) for _ in range(count)]
        ).double()
    error = wanted.std(dim=0) * (2 / count) ** 0.5  # of the difference of two means
    assert bool(((found.mean(dim=0) - wanted.mean(dim=0)).abs() < 4.5 * error).all())
    torch.testing.assert_close(found.std(dim=0), wanted.std(dim=0), rtol=0.08, atol=0)
    assert bool((found[:, 0] + found[:, 2] <= height).all())
    assert bool((found[:, 1] + found[:, 3] <= width).all())


@pytest.mark.parametrize(("height", "width"), [(3, 400), (400, 3), (2, 90), (5, 1000)])
def test_without_a_box_that_fits_the_centre_is_taken_as_torchvision_does(
    height: int, width: int
) -> None:
    expected = RandomResizedCrop.get_params(torch.zeros(3, height, width), SCALE, RATIO)
    assert crop_box(height, width, MIN_SCALE, random.Random(1)) == tuple(expected)


def test_a_view_depends_on_seed_epoch_and_name_alone() -> None:
    image, view = _image(40, 40), TrainView(size=16, seed=1, epoch=2)
    torch.manual_seed(5)
    random.seed(5)
    state = random.getstate(), torch.get_rng_state()
    first = view.apply(image, "a")
    assert random.getstate() == state[0]
    assert torch.equal(torch.get_rng_state(), state[1])
    view.apply(image, "b")
    assert torch.equal(TrainView(size=16, seed=1, epoch=2).apply(image, "a"), first)
    for other in (replace(view, seed=2), replace(view, epoch=1)):
        assert not torch.equal(other.apply(image, "a"), first)
    assert not torch.equal(view.apply(image, "b"), first)
    # neighbouring parts of the key do not run into each other
    assert not torch.equal(
        TrainView(size=16, seed=1, epoch=12).apply(image, "a"),
        TrainView(size=16, seed=11, epoch=2).apply(image, "a"),
    )


def test_names_that_are_no_unicode_have_views() -> None:
    assert TrainView(size=4).apply(_image(9, 9), "caf\udce9").shape == (3, 4, 4)


@pytest.mark.parametrize("batch_size", [1, 3, 20])
@pytest.mark.parametrize("in_memory", [True, False])
def test_the_views_of_a_split_do_not_depend_on_batches(batch_size: int, in_memory: bool) -> None:
    split, view = _split(9), TrainView(size=12, seed=7, epoch=1)
    expected = torch.stack([view.apply(split.read(i), split.ids[i]) for i in range(9)])
    if in_memory:
        pixels = torch.stack([_image(21, 30, i) for i in range(9)])
        split = replace(split, pixels=pixels, read=lambda i: pixels[i])
        expected = torch.stack([view.apply(pixels[i], split.ids[i]) for i in range(9)])
    part = view.of(split)
    batches = ImageBatches(split=part, images=EvalImages(), batch_size=batch_size)
    assert torch.equal(torch.cat([images for _, images in batches]), expected)
    assert (part.ids, part.fingerprint) == (split.ids, split.fingerprint)
