import pytest
import torch
import torchvision.transforms.v2.functional as reference
from torch import Tensor

from ssl_bf.views.photo_views import Photo, Photos, view_of_one

# Operations on one image follow means and sums in another order than those on a batch.
ROUNDING = 1e-5
COUNT = 24
ADJUST = (
    reference.adjust_brightness,
    reference.adjust_contrast,
    reference.adjust_saturation,
    reference.adjust_hue,
)


def random_pixels(side: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (COUNT, 3, side, side + 4), generator=generator, dtype=torch.uint8)


def random_photos(side: int) -> Photos:
    """Every operation on and off, in all combinations that matter."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.arange(COUNT)
    factors = 1 + 0.4 * (2 * torch.rand(COUNT, 4, generator=generator) - 1)
    factors[:, 3] = (factors[:, 3] - 1) / 4
    factors[::5] = torch.tensor([1.0, 1.0, 1.0, 0.0])
    start = torch.randint(0, 4, (COUNT, 2), generator=generator)
    extent = torch.randint(side // 2, side - 4, (COUNT, 2), generator=generator)
    return Photos(
        box=torch.cat((start, extent), dim=1),
        flip=rows % 2 == 0,
        factors=factors,
        order=torch.rand(COUNT, 4, generator=generator).argsort(1),
        gray=rows % 3 == 0,
        sigma=torch.where(rows % 4 < 2, 0.1 + 1.9 * rows / COUNT, 0.0),
        solarize=rows % 7 == 2,
        blur_room=COUNT,
    )


def expected_view(source: Tensor, photo: Photo, size: int) -> Tensor:
    """By torchvision, from bytes or float32."""
    view: Tensor = reference.resized_crop(source, *photo.box, [size, size])
    view = view / 255 if view.dtype == torch.uint8 else view
    view = reference.horizontal_flip(view) if photo.flip else view
    for operation in photo.order:
        view = ADJUST[operation](view, photo.factors[operation])
    view = reference.rgb_to_grayscale(view, 3) if photo.gray else view
    view = reference.gaussian_blur(view, [23, 23], [photo.sigma] * 2) if photo.sigma else view
    # not quite 128, which either side may reach or just miss
    solarized: Tensor = reference.solarize(view, threshold=128 / 255 - 1e-6)
    return solarized if photo.solarize else view


def assert_close(view: Tensor, expected: Tensor) -> None:
    """But for values at the threshold of solarize, which jump."""
    assert ((view - expected).abs() < ROUNDING).float().mean() > 0.999


def test_views_of_a_batch_equal_torchvision_image_by_image() -> None:
    pixels, drawn = random_pixels(30), random_photos(30)
    views = drawn.views(pixels, 24)
    for image, view, photo in zip(pixels, views, drawn.each(), strict=True):
        assert_close(view, expected_view(image / 255, photo, 24))


@pytest.mark.parametrize("as_list", [False, True])
def test_views_of_one_large_image_equal_torchvision_and_those_of_a_batch(as_list: bool) -> None:
    pixels, drawn = random_pixels(70), random_photos(70)
    views = drawn.views(list(pixels) if as_list else pixels, 66)
    for image, view, photo in zip(pixels, views, drawn.each(), strict=True):
        alone = view_of_one(image, photo, 66) / 255
        assert_close(alone, expected_view(image, photo, 66))  # bytes are resized to bytes
        assert_close(alone, view)


def test_rows_of_what_was_drawn_belong_together() -> None:
    drawn = random_photos(30)
    assert list(drawn[5:9].each()) == list(drawn.each())[5:9]


def test_the_device_is_never_waited_for() -> None:
    """Meta tensors have no values: any operation that needs one raises."""
    pixels = torch.empty(COUNT, 3, 30, 34, device="meta", dtype=torch.uint8)
    assert random_photos(30).views(pixels, 24).is_meta
