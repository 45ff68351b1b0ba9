import pytest
import torch
import torchvision.transforms.v2.functional as reference
from torch import Tensor
from torchvision.transforms import InterpolationMode

from ssl_bf.views.batch_ops import (
    crop_and_resize,
    gaussian_blur_,
    normalize_into,
    rotate_and_crop,
)

# Both sides compute the weights alike and only sum the products in another order.
ROUNDING = 1e-6


def random_images(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, height, width, generator=generator)


def random_boxes(count: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    low, high = torch.rand(2, count, 4, generator=generator)
    heights = 1 + (low[:, 0] * height).long()
    widths = 1 + (low[:, 1] * width).long()
    tops = (high[:, 0] * (height - heights + 1)).long()
    lefts = (high[:, 1] * (width - widths + 1)).long()
    return torch.stack((tops, lefts, heights, widths), dim=1)


def crop_one(image: Tensor, box: Tensor, flip: bool, size: int) -> Tensor:
    top, left, height, width = box.tolist()
    view: Tensor = reference.resized_crop(
        image, top, left, height, width, [size, size], antialias=True
    )
    return view.flip(-1) if flip else view


SIZES = [(32, 32, 32), (64, 64, 24), (41, 70, 33), (70, 41, 12), (5, 9, 16), (96, 96, 96)]


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_crop_and_resize_equals_torchvision_image_by_image(
    height: int, width: int, size: int
) -> None:
    images, boxes = random_images(24, height, width), random_boxes(24, height, width)
    flip = torch.arange(24) % 2 == 0
    expected = torch.stack([crop_one(images[i], boxes[i], bool(flip[i]), size) for i in range(24)])
    views = crop_and_resize(images, boxes, flip, size)
    torch.testing.assert_close(views, expected, rtol=0, atol=ROUNDING)


def test_crop_and_resize_of_bytes_equals_that_of_their_fractions() -> None:
    pixels = (random_images(6, 20, 30) * 255).to(torch.uint8)
    boxes, flip = random_boxes(6, 20, 30), torch.tensor([True, False] * 3)
    from_bytes = crop_and_resize(pixels, boxes, flip, 16)
    from_floats = crop_and_resize(pixels / 255, boxes, flip, 16)
    torch.testing.assert_close(from_bytes, from_floats, rtol=0, atol=1e-6)
    assert from_bytes.max() > 0.5


def test_crop_of_the_whole_image_at_its_own_size_is_the_image() -> None:
    images = random_images(3, 17, 17)
    boxes = torch.tensor([[0, 0, 17, 17]]).expand(3, 4)
    assert torch.equal(crop_and_resize(images, boxes, torch.zeros(3, dtype=torch.bool), 17), images)


@pytest.mark.parametrize("flip", [False, True])
def test_rotation_equals_torchvision_away_from_the_border(flip: bool) -> None:
    size = 48
    images = random_images(5, size, size)
    angle = torch.tensor([-54.0, -10, 0, 30, 54]).deg2rad()
    side = torch.tensor([0.75, 0.8, 0.9, 0.71, 0.85])
    centre = torch.tensor([[0.1, -0.2], [0, 0.1], [-0.1, 0], [0.05, 0.05], [0, 0]])
    views = rotate_and_crop(
        images, angle=angle, side=side, centre=centre, flip=torch.tensor([flip] * 5), size=size
    )
    inside = slice(size // 4, -size // 4)  # no pixel from beyond the border, where paddings differ
    for i in range(5):
        # torchvision moves the picture, we move the window: the inverse of our map
        zoom, turn, shift = 1 / side[i], angle[i], -centre[i] * size / 2
        x = zoom * (turn.cos() * shift[0] - turn.sin() * shift[1])
        y = zoom * (turn.sin() * shift[0] + turn.cos() * shift[1])
        expected = reference.affine(
            images[i],
            angle=float(turn.rad2deg()),
            translate=[float(x), float(y)],
            scale=float(zoom),
            shear=[0.0, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        if flip:
            expected = reference.horizontal_flip(expected)
        # Both go through float32 coordinates of about 48: 48 * 6e-8 times the slope of noise.
        torch.testing.assert_close(
            views[i][:, inside, inside], expected[:, inside, inside], rtol=0, atol=1e-4
        )


def test_a_window_beyond_the_border_is_filled_by_reflection() -> None:
    ramp = torch.linspace(0, 1, 16).expand(1, 3, 16, 16)
    view = rotate_and_crop(
        ramp.contiguous(),
        angle=torch.zeros(1),
        side=torch.ones(1),
        centre=torch.tensor([[0.5, 0.0]]),  # a quarter of the image beyond the right border
        flip=torch.tensor([False]),
        size=16,
    )
    expected = torch.cat((ramp[..., 4:], ramp[..., 12:].flip(-1)), dim=-1)
    torch.testing.assert_close(view, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (9, 9), (2, 2), (12, 64), (50, 7)])
def test_blur_equals_torchvision_with_23_taps_or_as_many_as_fit(height: int, width: int) -> None:
    images, rows = random_images(6, height, width), torch.tensor([0, 2, 3, 5])
    sigma = torch.tensor([0.1, 0.6, 1.3, 2.0])
    blurred = gaussian_blur_(images.clone(), rows, sigma)
    taps = [min(23, 2 * width - 1), min(23, 2 * height - 1)]
    for i, row in enumerate(rows.tolist()):
        expected = reference.gaussian_blur(images[row], taps, [float(sigma[i])] * 2)
        # torchvision sums 23 x 23 products at once
        torch.testing.assert_close(blurred[row], expected, rtol=0, atol=3 * ROUNDING)
    assert torch.equal(blurred[[1, 4]], images[[1, 4]])


def test_blur_of_no_rows_changes_nothing() -> None:
    images = random_images(2, 8, 8)
    blurred = gaussian_blur_(images.clone(), torch.empty(0, dtype=torch.int64), torch.empty(0))
    assert torch.equal(blurred, images)


def test_normalize_equals_torchvision() -> None:
    images = random_images(4, 8, 8)
    mean, std = [0.1, 0.5, 0.9], [0.3, 1.0, 2.0]
    expected = reference.normalize(images, mean, std)
    for layout in (torch.contiguous_format, torch.channels_last):
        views = torch.empty_like(images, memory_format=layout)
        normalize_into(views, images, mean, std)
        torch.testing.assert_close(views, expected, rtol=0, atol=1e-6)


def test_the_device_is_never_waited_for() -> None:
    """Meta tensors have no values: any operation that needs one raises."""
    images = torch.empty(4, 3, 16, 16, device="meta")
    box, flip = torch.tensor([[0, 0, 9, 9]]).expand(4, 4), torch.tensor([True, False] * 2)
    views = crop_and_resize(images, box, flip, 8)
    views = gaussian_blur_(views, torch.tensor([0, 3]), torch.tensor([0.5, 1.0]))
    normalize_into(torch.empty_like(views), views, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    assert views.shape == (4, 3, 8, 8)
    window = rotate_and_crop(
        images,
        angle=torch.zeros(4),
        side=torch.ones(4),
        centre=torch.zeros(4, 2),
        flip=flip,
        size=16,
    )
    assert window.is_meta
