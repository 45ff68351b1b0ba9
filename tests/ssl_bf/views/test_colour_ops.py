from collections.abc import Callable

import pytest
import torch
import torchvision.transforms.v2.functional as reference
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from ssl_bf.views.colour_ops import (
    colour_affine,
    colour_jitter,
    grayscale_,
    shift_hue_,
    solarize_,
    texture_colours,
)

# Values in [0, 1] after at most ten float32 operations; torchvision's hue also divides by chroma
# and multiplies by it again: a few roundings of 6e-8 however small the chroma is.
ROUNDING = 5e-6

ADJUST: list[Callable[[Tensor, float], Tensor]] = [
    reference.adjust_brightness,
    reference.adjust_contrast,
    reference.adjust_saturation,
    reference.adjust_hue,
]


def random_images(count: int, seed: int = 0) -> Tensor:
    """Noise with flat gray, black, white and pure colours, where HSV has its edges."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, 12, 10, generator=generator)
    images[:, :, 0] = 0.5
    images[:, :, 1] = 0.0
    images[:, :, 2] = 1.0
    images[:, 0, 3] = 0.0
    images[:, 1:, 4] = 0.0
    images[:, :2, 5] = 0.7
    images[:, :, 6] = (images[:, :, 6] * 3).floor() / 2
    images[:, :, 7] = torch.linspace(0.497, 0.505, 10)  # around the threshold of solarize
    return images


def random_factors(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    factors = 2 * torch.rand(count, 4, generator=generator)
    factors[:, 3] = (factors[:, 3] - 1) / 6
    factors[0] = torch.tensor([0.0, 0.0, 0.0, 1 / 6])
    factors[1] = torch.tensor([1.0, 1.0, 1.0, 0.0])
    factors[2] = torch.tensor([1.4, 0.6, 1.4, -1 / 6])
    return factors


def all_orders(count: int) -> Tensor:
    permutations = torch.cartesian_prod(*[torch.arange(4)] * 4)
    permutations = permutations[(permutations.sort(1).values == torch.arange(4)).all(1)]
    assert len(permutations) == 24
    return permutations[torch.arange(count) % 24]


def test_jitter_equals_torchvision_in_every_order() -> None:
    images, factors, order = random_images(72), random_factors(72), all_orders(72)
    jittered = colour_jitter(images, factors, order)
    for i in range(72):
        expected = images[i]
        for operation in order[i].tolist():
            expected = ADJUST[operation](expected, float(factors[i, operation]))
        # Contrast follows a mean of 120 values; later operations scale what it is off by.
        torch.testing.assert_close(jittered[i], expected, rtol=0, atol=2 * ROUNDING)


@pytest.mark.parametrize("operation", range(4))
def test_each_operation_of_the_jitter_equals_torchvision_alone(operation: int) -> None:
    images = random_images(24)
    factors = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(24, 1)
    factors[:, operation] = random_factors(24)[:, operation]
    jittered = colour_jitter(images, factors, all_orders(24))
    for i in range(24):
        expected = ADJUST[operation](images[i], float(factors[i, operation]))
        torch.testing.assert_close(jittered[i], expected, rtol=0, atol=ROUNDING)


def test_neutral_factors_leave_every_value_as_it_was() -> None:
    images = random_images(24)
    factors = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(24, 1)
    assert torch.equal(colour_jitter(images, factors, all_orders(24)), images)


def test_jitter_leaves_its_input_alone_and_stays_in_range() -> None:
    images = random_images(24)
    before = images.clone()
    jittered = colour_jitter(images, random_factors(24), all_orders(24))
    assert torch.equal(images, before)
    assert jittered.min() >= 0
    assert jittered.max() <= 1


def colour_circle() -> Tensor:
    """Every hue in steps of half a degree, at several chromas and values: (3, 720, 12)."""
    hue = torch.arange(720) / 120  # in sixths of a turn
    distance = torch.stack([(hue - 2 * k + 3).remainder(6) - 3 for k in range(3)]).abs()
    pure = (2 - distance).clamp(0, 1)[:, :, None]
    value, chroma = torch.linspace(0.1, 1, 12), torch.linspace(1, 0, 12)
    return value * (1 - chroma + chroma * pure)


@pytest.mark.parametrize("seed", range(2))
def test_hue_equals_torchvision_up_to_a_sixth_of_the_circle(seed: int) -> None:
    shifts = torch.linspace(-1 / 6, 1 / 6, 31)
    for image in (random_images(1, seed)[0], colour_circle()):
        images = image.expand(31, -1, -1, -1)
        planes = images.transpose(0, 1).clone()
        shifted = shift_hue_(planes, shifts[:, None, None]).transpose(0, 1)
        for i in range(31):
            expected = reference.adjust_hue(images[i], float(shifts[i]))
            torch.testing.assert_close(shifted[i], expected, rtol=0, atol=ROUNDING)
            alone = shift_hue_(images[i].clone(), float(shifts[i]))
            torch.testing.assert_close(alone, expected, rtol=0, atol=ROUNDING)


def test_hue_of_nearly_gray_pixels_is_finite_and_close() -> None:
    images = 0.5 + 1e-7 * random_images(1)[0]
    for shift in (0.15, -0.1):
        shifted = shift_hue_(images.clone(), shift)
        torch.testing.assert_close(shifted, images, rtol=0, atol=1e-6)


def test_hue_stays_between_the_smallest_and_the_largest_channel() -> None:
    image = random_images(1)[0]
    shifted = shift_hue_(image.clone(), 0.11)
    assert torch.equal(shifted.amax(0), image.amax(0))
    assert torch.equal(shifted.amin(0), image.amin(0))


def test_grayscale_equals_torchvision_on_its_rows_only() -> None:
    images = random_images(5)
    gray = grayscale_(images.clone(), torch.tensor([1, 4]))
    expected = reference.rgb_to_grayscale(images[[1, 4]], num_output_channels=3)
    torch.testing.assert_close(gray[[1, 4]], expected, rtol=0, atol=1e-6)
    assert torch.equal(gray[[0, 2, 3]], images[[0, 2, 3]])


def test_solarize_equals_torchvision_on_its_rows_only() -> None:
    images = random_images(5)
    solarized = solarize_(images.clone(), torch.tensor([0, 3]))
    expected = reference.solarize(images[[0, 3]], threshold=128 / 255)
    assert torch.equal(solarized[[0, 3]], expected)
    assert torch.equal(solarized[[1, 2, 4]], images[[1, 2, 4]])


def test_solarize_equals_pil_on_every_byte() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).expand(3, -1, -1).contiguous()
    picture: Image.Image = to_pil_image(pixels)
    expected = pil_to_tensor(ImageOps.solarize(picture, threshold=128))
    solarized = solarize_((pixels / 255)[None], torch.tensor([0]))[0]
    torch.testing.assert_close(solarized * 255, expected.float(), rtol=0, atol=1e-4)


def test_no_rows_change_nothing() -> None:
    images, none = random_images(2), torch.empty(0, dtype=torch.int64)
    assert torch.equal(solarize_(grayscale_(images.clone(), none), none), images)


def test_colour_affine_equals_a_product_per_pixel() -> None:
    images = random_images(3)
    matrix, offset = torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(0)), torch.eye(3)
    mapped = colour_affine(images, matrix, offset)
    for i in range(3):
        for y, x in ((0, 0), (7, 3), (11, 9)):
            expected = (matrix[i] @ images[i, :, y, x] + offset[i]).clamp(0, 1)
            torch.testing.assert_close(mapped[i, :, y, x], expected, rtol=0, atol=1e-6)


def test_texture_colours_are_the_documented_map() -> None:
    gain, shift = torch.tensor([0.7, 1.1, 1.3]), torch.tensor([0.1, -0.1, 0.0])
    uniforms = torch.cat(
        ((gain - 0.6) / 0.8, (shift + 0.2) / 0.4, torch.tensor([0.5, 0.9, 0.1, 0.9, 0.9]))
    )
    changed = {"gray": (9, 0.1), "inverted": (10, 0.1)}
    pixel = torch.tensor([0.2, 0.5, 0.9])
    affine = gain * (pixel - 0.5) + 0.5 + shift
    permuted = affine[[2, 0, 1]]  # the order of 0.5, 0.9, 0.1
    expected = {"": permuted, "gray": permuted[[0, 0, 0]], "inverted": 1 - permuted}
    for name, value in expected.items():
        row = uniforms.clone()
        if name:
            row[changed[name][0]] = changed[name][1]
        matrix, offset = texture_colours(row[None])
        torch.testing.assert_close(matrix[0] @ pixel + offset[0], value, rtol=0, atol=1e-6)


def test_texture_colours_occur_as_often_as_documented() -> None:
    uniforms = torch.rand(6000, 11, generator=torch.Generator().manual_seed(0))
    matrix, _ = texture_colours(uniforms)
    gray = (matrix == matrix[:, :1]).all(2).all(1)
    inverted = (matrix <= 0).all(2).all(1)
    first_channel = matrix.abs().argmax(2)[:, 0]
    assert abs(float(gray.float().mean()) - 0.3) < 4 * (0.21 / 6000) ** 0.5
    assert abs(float(inverted.float().mean()) - 0.5) < 4 * (0.25 / 6000) ** 0.5
    shares = torch.bincount(first_channel, minlength=3) / 6000
    assert (shares - 1 / 3).abs().max() < 4 * (2 / 9 / 6000) ** 0.5


def test_the_device_is_never_waited_for() -> None:
    """Meta tensors have no values: any operation that needs one raises."""
    images = torch.empty(24, 3, 8, 8, device="meta")
    views = colour_jitter(images, random_factors(24), all_orders(24))
    views = solarize_(grayscale_(views, torch.tensor([0, 3])), torch.tensor([1]))
    views = colour_affine(views, *texture_colours(torch.rand(24, 11)))
    assert views.is_meta
