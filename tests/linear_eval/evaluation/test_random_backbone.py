import pytest
import torch
from torch import nn

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.evaluation.random_backbone import calibrate_batch_norm, random_backbone
from linear_eval.images.batches import EvalImages, ImageBatches
from linear_eval.system.errors import InputError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
CPU = torch.device("cpu")


def _train(count: int, batch_size: int = 50) -> ImageBatches:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    pixels[: count // 2] //= 4  # sorted: the first half is dark, as a class may be
    split = ImageSplit(
        ids=tuple(f"image_{i}" for i in range(count)),
        labels=torch.zeros(count, dtype=torch.int64),
        class_names=("a",),
        read=lambda i: pixels[i],
        fingerprint="f",
        pixels=pixels,
    )
    return ImageBatches(split=split, images=EvalImages(), batch_size=batch_size)


def _norms(backbone: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]


def _calibrate(backbone: nn.Module, train: ImageBatches, seed: int = 0) -> None:
    calibrate_batch_norm(backbone, train, mean=MEAN, std=STD, seed=seed, device=CPU)


def test_the_seed_decides_the_weights_and_the_global_generator_stays() -> None:
    before = torch.get_rng_state()
    states = [random_backbone("small_conv", seed=seed).state_dict() for seed in (3, 3, 4)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(states[0]["layers.0.0.weight"], states[1]["layers.0.0.weight"])
    assert not torch.equal(states[0]["layers.0.0.weight"], states[2]["layers.0.0.weight"])


def test_running_statistics_are_those_of_the_whole_sample() -> None:
    backbone, train = random_backbone("small_conv", seed=0), _train(512)
    _calibrate(backbone, train)
    assert train.split.pixels is not None
    shift, scale = (torch.tensor(x).view(1, 3, 1, 1) for x in (MEAN, STD))
    images = (train.split.pixels.float() / 255 - shift) / scale
    first = next(m for m in backbone.modules() if isinstance(m, nn.Conv2d))
    with torch.no_grad():
        outputs = first(images)
    norm = _norms(backbone)[0]
    assert norm.running_mean is not None
    assert norm.running_var is not None
    torch.testing.assert_close(norm.running_mean, outputs.mean(dim=(0, 2, 3)), atol=1e-4, rtol=1e-4)
    # within two batches of 256, not across them: the spread of the two means is missing
    torch.testing.assert_close(norm.running_var, outputs.var(dim=(0, 2, 3)), rtol=0.05, atol=0)


def test_at_most_2048_images_are_looked_at_and_no_short_batch() -> None:
    for count, batches in ((2100, 8), (300, 1), (100, 1)):
        backbone = random_backbone("small_conv", seed=0)
        _calibrate(backbone, _train(count))
        assert [int(norm.num_batches_tracked or 0) for norm in _norms(backbone)] == [batches] * 4


def test_the_result_depends_neither_on_the_batch_size_nor_on_an_earlier_fit() -> None:
    backbone = random_backbone("small_conv", seed=0)
    found = []
    for batch_size in (7, 100):
        with torch.no_grad():
            backbone.train()(torch.randn(16, 3, 8, 8) * batch_size)  # statistics to be forgotten
        _calibrate(backbone, _train(300, batch_size))
        state = backbone.state_dict()
        found.append(state["layers.3.1.running_mean"].clone())
    assert torch.equal(found[0], found[1])


def test_the_momentum_and_the_modes_are_put_back() -> None:
    backbone = random_backbone("small_conv", seed=0).eval()
    _calibrate(backbone, _train(20))
    assert [norm.momentum for norm in _norms(backbone)] == [0.1] * 4
    assert not any(module.training for module in backbone.modules())


def test_one_image_is_too_few() -> None:
    with pytest.raises(InputError, match="at least two train images"):
        _calibrate(random_backbone("small_conv", seed=0), _train(1))
