import pytest
import torch
import torchvision.transforms.v2.functional as reference
from torch import Tensor

from ssl_bf.views.batch_ops import crop_and_resize, gaussian_blur_
from ssl_bf.views.image_ops import (
    blurred,
    crop_and_enlarge,
    crop_and_resize_each,
    cropped,
    prefer_one_at_a_time,
)

# Both sides compute the weights alike and only sum the products in another order.
ROUNDING = 1e-6
POSITIONS = 1e-5  # of pixels, up to 64; neighbours differ by up to 1


def random_images(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, height, width, generator=generator)


def unequal_images() -> tuple[list[Tensor], Tensor, Tensor]:
    images = [random_images(1, h, w, seed=h)[0] for h, w in [(30, 20), (64, 48), (16, 90)]]
    boxes = torch.tensor([[3, 1, 20, 17], [0, 0, 64, 48], [5, 40, 9, 33]])
    return images, boxes, torch.tensor([True, False, True])


def test_images_of_unequal_size_are_cropped_like_a_batch_of_one() -> None:
    images, boxes, flip = unequal_images()
    views = crop_and_resize_each(images, boxes, flip, 24)
    for i, image in enumerate(images):
        rows = slice(i, i + 1)
        alone = crop_and_resize(image[None], boxes[rows], flip[rows], 24)
        torch.testing.assert_close(views[rows], alone, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(
    ("height", "width", "size"), [(32, 32, 32), (64, 64, 64), (20, 30, 45), (1, 9, 16)]
)
@pytest.mark.parametrize("kind", [torch.float32, torch.uint8])
def test_crops_that_become_no_smaller_equal_products(
    height: int, width: int, size: int, kind: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(1)
    images = random_images(64, height, width)
    images = (255 * images).to(kind) if kind == torch.uint8 else images
    room = torch.tensor([height, width])
    extents = 1 + (torch.rand(64, 2, generator=generator) * room).long()
    starts = (torch.rand(64, 2, generator=generator) * (room - extents + 1)).long()
    boxes = torch.cat((starts, extents), dim=1)
    boxes[0] = torch.tensor([0, 0, height, width])
    flip = torch.rand(64, generator=generator) < 0.5
    expected = crop_and_resize(images, boxes, flip, size)
    for layout in (torch.contiguous_format, torch.channels_last):
        views = crop_and_enlarge(images.contiguous(memory_format=layout), boxes, flip, size)
        torch.testing.assert_close(views, expected, rtol=0, atol=POSITIONS)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_images_of_bytes_are_resized_to_bytes_like_torchvision_does(
    layout: torch.memory_format,
) -> None:
    images = [random_images(1, h, w, seed=h)[0] for h, w in [(65, 40), (64, 80), (16, 90)]]
    boxes = torch.tensor([[3, 1, 20, 17], [0, 0, 64, 48], [5, 40, 9, 33]])
    flip = torch.tensor([True, False, True])
    pixels = [(image * 255).to(torch.uint8) for image in images]
    given = [image[None].contiguous(memory_format=layout)[0] for image in pixels]
    views = crop_and_resize_each(given, boxes, flip, 24)
    for i, image in enumerate(pixels):
        expected = reference.resized_crop(image, *boxes[i].tolist(), [24, 24])
        expected = expected.flip(-1) if flip[i] else expected
        assert torch.equal((views[i] * 255).round().to(torch.uint8), expected)
        rows = slice(i, i + 1)
        unrounded = crop_and_resize(image[None], boxes[rows], flip[rows], 24)
        # rounded after either direction: half a level twice, and a little for the weights
        torch.testing.assert_close(views[rows], unrounded, rtol=0, atol=1.1 / 255)


def test_bytes_of_small_images_are_not_rounded_whatever_stands_beside_them() -> None:
    small, large = (
        (random_images(1, side, side, seed=side)[0] * 255).to(torch.uint8) for side in (40, 90)
    )
    boxes, flip = torch.tensor([[3, 1, 20, 17]] * 2), torch.tensor([True, False])
    beside = crop_and_resize_each([small, large], boxes, flip, 24)[:1]
    in_a_batch = crop_and_resize(small[None], boxes[:1], flip[:1], 24)
    torch.testing.assert_close(beside, in_a_batch, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (75, 75), (2, 2), (12, 64), (50, 7)])
@pytest.mark.parametrize("channels", [1, 3])
def test_blur_of_one_equals_torchvision_and_that_of_a_batch(
    height: int, width: int, channels: int
) -> None:
    images, sigma = random_images(4, height, width), torch.tensor([0.1, 0.6, 1.3, 2.0])
    taps = [min(23, 2 * width - 1), min(23, 2 * height - 1)]
    dense = gaussian_blur_(images.clone(), torch.arange(4), sigma)
    for i, image in enumerate(images):
        own = blurred(image[:channels], float(sigma[i]))
        expected = reference.gaussian_blur(image[:channels], taps, [float(sigma[i])] * 2)
        # torchvision sums 23 x 23 products at once
        torch.testing.assert_close(own, expected, rtol=0, atol=3 * ROUNDING)
        torch.testing.assert_close(own, dense[i, :channels], rtol=0, atol=3 * ROUNDING)


def test_a_crop_is_memory_of_its_own() -> None:
    image = random_images(1, 24, 24)[0]
    crop = cropped(image, [0, 0, 24, 24], 24, mirrored=False)
    assert torch.equal(crop, image)
    crop.zero_()
    assert image.any()


def test_only_a_cpu_takes_large_images_one_at_a_time() -> None:
    assert prefer_one_at_a_time(torch.device("cpu"), 224)
    assert not prefer_one_at_a_time(torch.device("cpu"), 32)
    assert not prefer_one_at_a_time(torch.device("cuda"), 224)
