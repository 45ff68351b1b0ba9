from collections.abc import Sequence
from itertools import permutations

import pytest
import torch
import torchvision.transforms.v2.functional as reference
from torch import Tensor

from ssl_bf.views.batch_ops import normalize_into
from ssl_bf.views.colour_ops import NEUTRAL, colour_jitter
from ssl_bf.views.image_colours import Normalization, jitter_, solarized
from ssl_bf.views.image_ops import WHITE

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


def jittered(image: Tensor, factors: Sequence[float], order: Sequence[int]) -> Tensor:
    """Images in [0, 1], as elsewhere."""
    return jitter_(WHITE * image, factors, order) / WHITE


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
        own = jittered(image, factors, order)
        torch.testing.assert_close(own, expected, rtol=0, atol=ROUNDING)
        batch = colour_jitter(image[None], torch.tensor([factors]), torch.tensor([order]))
        torch.testing.assert_close(own, batch[0], rtol=0, atol=ROUNDING)
        assert own.min() >= 0
        assert own.max() <= 1


@pytest.mark.parametrize("operation", range(4))
@pytest.mark.parametrize("sign", [-1, 1])
def test_each_operation_equals_torchvision_alone(operation: int, sign: int) -> None:
    factors = list(NEUTRAL)
    factors[operation] += sign * 0.15
    own = jittered(random_image(), factors, range(4))
    expected = ADJUST[operation](random_image(), factors[operation])
    torch.testing.assert_close(own, expected, rtol=0, atol=ROUNDING / 2)


def test_neutral_factors_leave_every_value_as_it_was() -> None:
    assert torch.equal(jitter_(random_image(), NEUTRAL, range(4)), random_image())


@pytest.mark.parametrize("channels", [1, 3])
def test_solarized_equals_torchvision(channels: int) -> None:
    image = random_image()[:channels]
    image[:, 3] = torch.linspace(0.497, 0.505, 10)  # around the threshold
    expected = reference.solarize(image, threshold=128 / 255)
    torch.testing.assert_close(solarized(WHITE * image) / WHITE, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3])
def test_levels_are_normalized_like_values_of_a_batch(
    layout: torch.memory_format, channels: int
) -> None:
    image = random_image()[:channels].expand(3, -1, -1)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    view, batch = torch.empty((2, 1, 3, 14, 10)).unbind()
    view = view.contiguous(memory_format=layout)
    Normalization.of(mean, std).write(view[0], WHITE * image)
    normalize_into(batch, image[None], mean, std)
    torch.testing.assert_close(view, batch, rtol=0, atol=1e-6)
