from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from linear_eval.backbones.architectures import build_backbone
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decode import BadImageError
from linear_eval.features.table import (
    FeatureTable,
    collect_features,
    frozen,
    raw_pixels,
)
from linear_eval.images.batches import EvalImages, ImageBatches
from linear_eval.system.errors import InputError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def _split(count: int, side: int = 16) -> ImageSplit:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    return ImageSplit(
        ids=tuple(f"image_{i}" for i in range(count)),
        labels=torch.arange(count) % 3,
        class_names=("a", "b", "c"),
        read=lambda i: pixels[i],
        fingerprint="f",
        pixels=pixels,
    )


def _backbone() -> nn.Module:
    """small_conv with BatchNorm statistics that are not the initial ones, in train mode."""
    backbone = build_backbone("small_conv")
    with torch.no_grad():
        backbone(torch.randn(16, 3, 16, 16))
    return backbone


def _batches(split: ImageSplit, batch_size: int = 4, **changes: Any) -> ImageBatches:
    return ImageBatches(split=split, batch_size=batch_size, **{"images": EvalImages(), **changes})


def _extract(backbone: nn.Module, batches: ImageBatches) -> FeatureTable:
    with frozen(backbone, mean=MEAN, std=STD, device=torch.device("cpu")) as embed:
        return collect_features(embed, batches)


class _Mean(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


def test_features_are_those_of_the_normalised_image() -> None:
    split = _split(5)
    table = _extract(_Mean(), _batches(split))
    assert split.pixels is not None
    means = split.pixels.double().mean(dim=(2, 3)) / 255
    expected = (means - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(table.features.double(), expected, atol=1e-6, rtol=0)
    assert table.ids == split.ids
    assert torch.equal(table.labels, split.labels)
    assert table.features.dtype == torch.float32


def test_the_evaluation_transform_is_applied() -> None:
    split = _split(3)
    seen: list[torch.Size] = []
    backbone = _Mean()
    backbone.register_forward_hook(lambda module, given, out: seen.append(given[0].shape))
    _extract(backbone, _batches(split, images=EvalImages(resize=12, crop=10)))
    assert seen == [(3, 3, 10, 10)]


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_a_feature_does_not_depend_on_its_batch(batch_size: int) -> None:
    backbone, split = _backbone(), _split(23)
    expected = _extract(backbone, _batches(split, 23)).features
    found = _extract(backbone, _batches(split, batch_size)).features
    # convolutions sum in another order for another batch size
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_permuted_images_give_permuted_features() -> None:
    backbone, split = _backbone(), _split(23)
    order = torch.randperm(23, generator=torch.Generator().manual_seed(1))
    found = _extract(backbone, _batches(split.select(order)))
    torch.testing.assert_close(
        found.features, _extract(backbone, _batches(split)).features[order], atol=1e-5, rtol=1e-4
    )
    assert found.ids == tuple(split.ids[i] for i in order.tolist())


def test_the_mode_of_every_module_is_restored_and_nothing_else_changes() -> None:
    backbone = _backbone()
    first, second, *_ = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    first.eval()
    modes = [module.training for module in backbone.modules()]
    state = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    _extract(backbone, _batches(_split(9)))
    assert [module.training for module in backbone.modules()] == modes
    assert second.training and not first.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in backbone.state_dict().items())


def test_the_modes_are_restored_after_an_error() -> None:
    backbone = _backbone()

    def fail(index: int) -> Tensor:
        raise BadImageError("image_0: broken")

    split = replace(_split(2), pixels=None, read=fail)
    with pytest.raises(BadImageError):
        _extract(backbone, _batches(split))
    assert all(module.training for module in backbone.modules())


def test_features_are_float32_and_free_of_the_callers_autocast_and_graph() -> None:
    backbone, split = _backbone().eval().requires_grad_(True), _split(5)
    assert split.pixels is not None
    shift, scale = (torch.tensor(x).view(1, 3, 1, 1) for x in (MEAN, STD))
    expected = backbone((split.pixels.float() / 255 - shift) / scale).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = _extract(backbone, _batches(split, 5)).features
    assert torch.equal(found, expected)
    assert not found.requires_grad
    nn.Linear(128, 2)(found).sum().backward()  # no inference tensor: a probe can train on it


def test_skipped_images_are_missing_from_every_column() -> None:
    split = _split(5)

    def read(index: int) -> Tensor:
        if index in (0, 3):
            raise BadImageError(f"image_{index}: broken")
        return _split(5).read(index)

    split = replace(split, pixels=None, read=read)
    batches = ImageBatches(split=split, images=EvalImages(), batch_size=2, on_bad_image="skip")
    table = collect_features(raw_pixels, batches)
    assert table.ids == ("image_1", "image_2", "image_4")
    assert table.labels.tolist() == [1, 2, 1]
    assert len(table.features) == 3


def test_a_split_without_a_readable_image_is_an_error() -> None:
    def read(index: int) -> Tensor:
        raise BadImageError("broken")

    split = replace(_split(3), pixels=None, read=read)
    batches = ImageBatches(split=split, images=EvalImages(), batch_size=2, on_bad_image="skip")
    with pytest.raises(InputError, match="none of the 3 images could be read"):
        collect_features(raw_pixels, batches)


def test_small_images_are_their_own_pixel_features() -> None:
    split = _split(4, side=8)
    table = collect_features(raw_pixels, _batches(split, 3))
    assert split.pixels is not None
    assert torch.equal(table.features, split.pixels.flatten(1).float() / 255)


@pytest.mark.parametrize("side", [64, 96])
def test_larger_images_are_averaged_over_boxes_down_to_32_pixels(side: int) -> None:
    pixels = _split(2, side).pixels
    assert pixels is not None
    box = side // 32
    expected = torch.zeros(2, 3, 32, 32)
    for row in range(32):
        for column in range(32):
            block = pixels[:, :, row * box : (row + 1) * box, column * box : (column + 1) * box]
            expected[:, :, row, column] = block.float().mean(dim=(2, 3)) / 255
    torch.testing.assert_close(raw_pixels(pixels), expected.flatten(1))


def test_an_image_narrower_than_32_pixels_keeps_its_width() -> None:
    assert raw_pixels(torch.zeros(2, 3, 40, 20, dtype=torch.uint8)).shape == (2, 3 * 32 * 20)
