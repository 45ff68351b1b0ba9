import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_bf.pixels.packed_images import PackedImages
from ssl_bf.views import packed_crops
from ssl_bf.views.image_ops import crop_and_resize_each
from ssl_bf.views.packed_crops import crop_and_resize_packed


def random_images(count: int, *, most: int = 60) -> list[Tensor]:
    generator = torch.Generator().manual_seed(count)
    sizes = torch.randint(most // 2, most, (count, 2), generator=generator).tolist()
    sizes[0] = [most // 2, most]
    return [
        torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8).permute(
            2, 0, 1
        )
        for height, width in sizes
    ]


def random_boxes(images: list[Tensor]) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    rows = []
    for image in images:
        height, width = (
            int(side * (0.7 + 0.3 * torch.rand((), generator=generator)))
            for side in image.shape[1:]
        )
        top = int(torch.randint(0, image.shape[1] - height + 1, (), generator=generator))
        left = int(torch.randint(0, image.shape[2] - width + 1, (), generator=generator))
        rows.append([top, left, height, width])
    rows[0] = [0, 0, *images[0].shape[1:]]  # a whole image
    return torch.tensor(rows)


@pytest.mark.parametrize("size", [12, 30])
def test_all_at_once_equals_one_after_the_other(size: int) -> None:
    images = random_images(17)
    boxes, flip = random_boxes(images), torch.arange(17) % 2 == 0
    rows = torch.arange(17).flip(0)
    packed = PackedImages.of([*random_images(2), *images])[2 + rows]  # in a buffer with others
    found = crop_and_resize_packed(packed, boxes[rows], flip[rows], size)
    expected = crop_and_resize_each(images, boxes, flip, size)[rows]
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_the_number_of_operations_does_not_depend_on_the_number_of_images() -> None:
    counts = []
    for count in (4, 20):
        images = random_images(count)
        packed, boxes = PackedImages.of(images), random_boxes(images)
        with _Count() as counted:  # type: ignore[no-untyped-call]
            crop_and_resize_packed(packed, boxes, torch.zeros(count) > 0, 12)
        counts.append(counted.operations)
    assert counts[0] == counts[1] < 130


def test_one_image_much_larger_than_the_others_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = [*random_images(9, most=30), torch.zeros((3, 900, 900), dtype=torch.uint8)]
    boxes = torch.tensor([[0, 0, *image.shape[1:]] for image in images])
    monkeypatch.delattr(packed_crops, "_padded")
    crops = crop_and_resize_packed(PackedImages.of(images), boxes, torch.zeros(10) > 0, 12)
    assert torch.equal(crops, crop_and_resize_each(images, boxes, torch.zeros(10) > 0, 12))


class _Count(TorchDispatchMode):
    operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.operations += 1
        return func(*args, **(kwargs or {}))
