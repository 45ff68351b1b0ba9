from itertools import permutations

import pytest
import torch
import torchvision.transforms.v2.functional as reference
from torch import Tensor

from ssl_bf.input.colour_ops import NEUTRAL, colour_jitter
from ssl_bf.input.image_colours import jitter_, solarized

# The same tolerance as for batches: five operations, one of which follows a mean.
ROUNDING = 1e-5
FACTORS = (
    [0.6, 1.4, 1.3, 0.1],
    [1.4, 0.6, 0.7, -0.1],
    [1.2, 1.0, 0.0, 1 / 6],
    [0.0, 1.1, 2.0, 0.0],
)
ADJUST = (
    reference.adjust_brightness,
    reference.adjust_contrast,
    reference.adjust_saturation,
    reference.adjust_hue,
)


def random_image() -> Tensor:
    image = torch.rand(3, 14, 10, generator=torch.Generator().manual_seed(0))
    image[:, 0] = 0.5
    image[:, 1] = 0.0
    image[:, 2] = 1.0
    return image


@pytest.mark.parametrize("factors", FACTORS)
def test_jitter_equals_torchvision_and_that_of_a_batch_in_every_order(factors: list[float]) -> None:
    image = random_image()
    for order in permutations(range(4)):
        expected = image
        for operation in order:
            expected = ADJUST[operation](expected, factors[operation])
        jittered = jitter_(image.clone(), factors, order)
        torch.testing.assert_close(jittered, expected, rtol=0, atol=ROUNDING)
        batch = colour_jitter(image[None], torch.tensor([factors]), torch.tensor([order]))
        torch.testing.assert_close(jittered, batch[0], rtol=0, atol=ROUNDING)
        assert jittered.min() >= 0
        assert jittered.max() <= 1


@pytest.mark.parametrize("operation", range(4))
@pytest.mark.parametrize("sign", [-1, 1])
def test_each_operation_equals_torchvision_alone(operation: int, sign: int) -> None:
    factors = list(NEUTRAL)
    factors[operation] += sign * 0.15
    jittered = jitter_(random_image(), factors, range(4))
    expected = ADJUST[operation](random_image(), factors[operation])
    torch.testing.assert_close(jittered, expected, rtol=0, atol=ROUNDING / 2)


def test_neutral_factors_leave_every_value_as_it_was() -> None:
    assert torch.equal(jitter_(random_image(), NEUTRAL, range(4)), random_image())


@pytest.mark.parametrize("channels", [1, 3])
def test_solarized_equals_torchvision(channels: int) -> None:
    image = random_image()[:channels]
    image[:, 3] = torch.linspace(0.497, 0.505, 10)  # around the threshold
    expected = reference.solarize(image, threshold=128 / 255)
    assert torch.equal(solarized(image), expected)
