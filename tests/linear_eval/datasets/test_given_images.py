"""Images that Python programs hold become RGB in bytes, or a line says why not."""

import numpy as np
import pytest
import torch
from PIL import Image

from linear_eval.datasets.given_images import as_pixels, as_pixels_of_all
from linear_eval.system.errors import InputError

PIXELS = torch.randint(0, 256, (3, 5, 4), dtype=torch.uint8)
PIXELS[0, 0, 0] = 0


def test_every_form_of_one_image_is_the_same_pixels() -> None:
    pil = Image.fromarray(PIXELS.permute(1, 2, 0).numpy())
    for image in (pil, PIXELS, PIXELS.float() / 255, PIXELS.double() / 255):
        assert torch.equal(as_pixels(image, "image"), PIXELS)
    assert torch.equal(as_pixels_of_all(PIXELS[None].float() / 255, "images")[0], PIXELS)


def test_a_grey_image_is_repeated() -> None:
    gray = Image.fromarray(PIXELS[0].numpy())
    assert torch.equal(as_pixels(gray, "image"), PIXELS[:1].expand(3, -1, -1))


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (PIXELS.float() / 128 - 1, "images[3]: has values from -1"),
        (torch.full((3, 2, 2), torch.nan), "images[3]: has values from nan"),
        (PIXELS[:1], "images[3]: is a Tensor (1, 5, 4) of uint8"),
        (PIXELS.permute(1, 2, 0), "images[3]: is a Tensor (5, 4, 3) of uint8"),
        (PIXELS.long(), "images[3]: is a Tensor (3, 5, 4) of int64"),
        (PIXELS[:, :0], "images[3]: is a Tensor (3, 0, 4) of uint8"),
        (PIXELS.numpy(), "images[3]: is a ndarray (3, 5, 4) of uint8"),
        ("photo.jpg", "images[3]: is a str"),
        (Image.fromarray(np.zeros((2, 2), dtype=np.int32)), "images[3]: has 32-bit"),
    ],
)
def test_anything_else_is_refused_in_one_line(image: object, says: str) -> None:
    with pytest.raises(InputError, match="expected") as caught:
        as_pixels(image, "images[3]")
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_a_tensor_of_images_has_four_dimensions() -> None:
    with pytest.raises(InputError, match=r"dataset: is a Tensor \(3, 5, 4\)"):
        as_pixels_of_all(PIXELS, "dataset")
