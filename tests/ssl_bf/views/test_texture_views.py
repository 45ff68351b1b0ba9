import torch
from torch import Tensor

from ssl_bf.views.colour_ops import texture_colours
from ssl_bf.views.texture_views import TextureWindows


def random_pixels() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (6, 3, 16, 16), generator=generator, dtype=torch.uint8)


def windows(flip: bool, *, turn: float = 0.3) -> TextureWindows:
    matrix, offset = texture_colours(torch.rand(6, 11, generator=torch.Generator().manual_seed(1)))
    return TextureWindows(
        angle=torch.linspace(-turn, turn, 6),
        side=torch.linspace(1 - turn, 1, 6),
        centre=torch.zeros(6, 2),
        flip=torch.tensor([flip] * 6),
        matrix=matrix,
        offset=offset,
    )


def test_the_whole_window_is_the_image_with_its_colours_mapped() -> None:
    pixels, drawn = random_pixels(), windows(flip=True, turn=0.0)
    expected = torch.einsum("nij,njhw->nihw", drawn.matrix, pixels.flip(-1) / 255)
    expected = (expected + drawn.offset[:, :, None, None]).clamp(0, 1)
    torch.testing.assert_close(drawn.views(pixels, 16), expected, rtol=0, atol=1e-5)


def test_rows_of_what_was_drawn_belong_together() -> None:
    pixels, drawn = random_pixels(), windows(flip=False)
    some = drawn[2:5].views(list(pixels[2:5]), 12)
    torch.testing.assert_close(some, drawn.views(pixels, 12)[2:5], rtol=0, atol=1e-6)
