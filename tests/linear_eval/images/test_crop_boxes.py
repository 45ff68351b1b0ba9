import functools
import math
import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms import RandomResizedCrop

from linear_eval.images.crop_boxes import ATTEMPTS, DRAWS, crop_box, random_resized_crop


def uniform(seed: int, count: int) -> Tensor:
    return torch.rand(count, DRAWS, generator=torch.Generator().manual_seed(seed))


class Counted(random.Random):
    """Counts the numbers that are taken."""

    taken = 0

    def random(self) -> float:
        self.taken += 1
        return super().random()


def draw_boxes(count: int, height: int, width: int, min_scale: float) -> Tensor:
    return random_resized_crop(
        uniform(height + width, count),
        height=torch.full((count,), height),
        width=torch.full((count,), width),
        min_scale=min_scale,
    )


def box_by_loop(draws: list[float], height: int, width: int, min_scale: float) -> list[int]:
    """The loop of torchvision's documentation, fed with given numbers."""
    for attempt in range(10):
        area = height * width * (min_scale + (1 - min_scale) * draws[attempt])
        low, high = math.log(3 / 4), math.log(4 / 3)
        ratio = math.exp(low + (high - low) * draws[10 + attempt])
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return [
                int(draws[20] * (height - h + 1)),
                int(draws[21] * (width - w + 1)),
                h,
                w,
            ]
    if width / height < 3 / 4:
        w, h = width, round(width / (3 / 4))
    elif width / height > 4 / 3:
        w, h = round(height * (4 / 3)), height
    else:
        w, h = width, height
    return [(height - h) // 2, (width - w) // 2, h, w]


@functools.cache
def torchvision_boxes(height: int, width: int) -> Tensor:
    image = torch.empty(3, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        boxes = [
            RandomResizedCrop.get_params(image, scale=[0.2, 1.0], ratio=[3 / 4, 4 / 3])
            for _ in range(3000)
        ]
    return torch.tensor(boxes)


def distance(first: Tensor, second: Tensor) -> float:
    """Two-sample Kolmogorov-Smirnov statistic, times the root of n / 2."""
    points = torch.cat((first, second)).double()
    below = [
        torch.searchsorted(s.double().sort().values, points, right=True) for s in (first, second)
    ]
    return float((below[0] - below[1]).abs().max()) / len(first) * math.sqrt(len(first) / 2)


@pytest.mark.parametrize(
    ("height", "width"), [(32, 32), (375, 500), (500, 375), (20, 100), (90, 7), (1, 1), (2, 3)]
)
def test_boxes_are_those_of_the_documented_loop(height: int, width: int) -> None:
    draws = uniform(1, 300)
    sizes = torch.full((300,), height), torch.full((300,), width)
    boxes = random_resized_crop(draws, height=sizes[0], width=sizes[1], min_scale=0.08)
    expected = [box_by_loop(row, height, width, 0.08) for row in draws.double().tolist()]
    assert boxes.tolist() == expected


def test_images_of_different_sizes_get_their_own_boxes_in_one_call() -> None:
    draws = uniform(2, 3)
    heights, widths = torch.tensor([32, 500, 40]), torch.tensor([32, 375, 200])
    boxes = random_resized_crop(draws, height=heights, width=widths, min_scale=0.2)
    for row in range(3):
        expected = box_by_loop(
            draws[row].double().tolist(), int(heights[row]), int(widths[row]), 0.2
        )
        assert boxes[row].tolist() == expected


@pytest.mark.parametrize(("height", "width"), [(64, 64), (375, 500), (30, 100)])
@pytest.mark.parametrize(
    "value",
    [
        lambda box: box[:, 2] * box[:, 3],
        lambda box: box[:, 3] / box[:, 2],
        lambda box: box[:, 0],
        lambda box: box[:, 1] + box[:, 3],
    ],
    ids=["area", "ratio", "top", "right"],
)
def test_boxes_are_distributed_as_torchvision_draws_them(
    height: int, width: int, value: Callable[[Tensor], Tensor]
) -> None:
    ours = draw_boxes(3000, height, width, 0.2)
    theirs = torchvision_boxes(height, width)
    assert distance(value(ours), value(theirs)) < 1.95  # exceeded by chance in 1 of 1,000


def test_the_largest_number_below_one_still_gives_a_box_inside_the_image() -> None:
    draws = torch.full((1, DRAWS), 1 - 2.0**-24)
    draws[:, 10:20] = 0.5
    size = torch.tensor([5000])
    top, left, height, width = random_resized_crop(draws, height=size, width=size, min_scale=0.01)[
        0
    ].tolist()
    assert top + height <= 5000
    assert left + width <= 5000


@pytest.mark.parametrize(
    ("height", "width"), [(32, 32), (375, 500), (500, 375), (20, 100), (90, 7), (1, 1)]
)
def test_one_image_and_a_batch_make_the_same_box_of_the_same_numbers(
    height: int, width: int
) -> None:
    size = torch.tensor([height]), torch.tensor([width])
    for seed in range(200):
        draw = random.Random(seed)
        numbers = [draw.random() for _ in range(DRAWS)]
        tries = Counted(seed)
        box = crop_box(height, width, 0.08, tries)
        place = numbers[tries.taken - 2 : tries.taken]  # drawn right behind a box that fits
        ordered = numbers[0 : 2 * ATTEMPTS : 2] + numbers[1 : 2 * ATTEMPTS : 2] + place
        batch = torch.tensor([ordered], dtype=torch.float64)
        found = random_resized_crop(batch, height=size[0], width=size[1], min_scale=0.08)
        assert tuple(found[0].tolist()) == box
