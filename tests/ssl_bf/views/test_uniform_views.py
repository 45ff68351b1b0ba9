from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from ssl_bf.pixels.packed_images import PackedImages
from ssl_bf.views import recipes as views
from ssl_bf.views import uniform_views
from ssl_bf.views.batch_ops import normalize_into
from ssl_bf.views.photo_views import Photos
from ssl_bf.views.recipes import RECIPES, ViewsConfig, enough_rows, make_view
from ssl_bf.views.uniform_views import UniformPhotos, finish, write_compiled
from ssl_bf.views.view_draws import ViewDraws

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RECIPE_VIEWS = [("moco_v2", 1), ("moco_v3", 1), ("moco_v3", 2)]
each_recipe = pytest.mark.parametrize("recipe, view", RECIPE_VIEWS)


def draw(count: int, recipe: str, view: int, *, epoch: int = 0, size: int = 24) -> Photos:
    config = ViewsConfig(recipe=recipe, size=size)  # type: ignore[arg-type]
    draws = ViewDraws(0, epoch, view, torch.arange(count))
    photos = RECIPES[recipe](torch.tensor([[30, 34]]).expand(count, -1), draws, config)
    assert isinstance(photos, Photos)
    return photos


def random_pixels(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 30, 34), generator=generator, dtype=torch.uint8)


def finished(pixels: Tensor, photos: Photos) -> Tensor:
    written = torch.empty_like(pixels)
    finish(written, pixels, UniformPhotos.of(photos), MEAN, STD)
    return written


def assert_close(views: Tensor, expected: Tensor) -> None:
    """But for values at the threshold of solarize, which jump."""
    assert ((views - expected).abs() < 2e-5).float().mean() > 0.9999


@each_recipe
def test_every_row_gets_what_rows_taken_out_get(recipe: str, view: int) -> None:
    photos, images = draw(150, recipe, view), random_pixels(150)
    expected = torch.empty((150, 3, 24, 24))
    normalize_into(expected, photos.views(images, 24), MEAN, STD)
    assert_close(finished(photos.cropped(images, 24), photos), expected)


def test_what_nothing_is_done_to_stays_to_the_bit() -> None:
    photos = draw(20, "moco_v2", 1)
    neutral = replace(
        photos,
        factors=torch.tensor([1.0, 1.0, 1.0, 0.0]).expand(20, -1),
        gray=torch.zeros(20) > 0,
        sigma=torch.zeros(20),
    )
    crops = photos.cropped(random_pixels(20), 24)
    written = torch.empty_like(crops)
    assert neutral.blur_room > 0
    finish(written, crops, UniformPhotos.of(neutral), mean=(0, 0, 0), std=(1, 1, 1))
    assert torch.equal(written, crops.clamp(0, 1))


@each_recipe
def test_shapes_do_not_depend_on_what_is_drawn(recipe: str, view: int) -> None:
    shapes = {
        tuple(x.shape for x in UniformPhotos.of(draw(64, recipe, view, epoch=epoch)))
        for epoch in range(20)
    }
    assert len(shapes) == 1


@pytest.mark.parametrize("count", [8, 64, 256])
@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 1.0])
def test_blur_has_room_for_nearly_every_batch_but_not_for_all_rows(
    count: int, probability: float
) -> None:
    room = enough_rows(count, probability)
    distribution = torch.distributions.Binomial(count, torch.tensor(probability).double())
    values = torch.arange(count + 1.0).double()
    chances = distribution.log_prob(values).exp().nan_to_num(0.0)
    assert chances[values > room].sum() < 1e-5
    assert room <= count
    if probability == 0.1 and count == 256:
        assert room < 60


def test_a_batch_that_blur_has_no_room_for_is_made_without_the_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(uniform_views, "_compiled")
    monkeypatch.setattr(views, "enough_rows", lambda count, probability: 3)
    config = ViewsConfig(recipe="moco_v2", size=24)
    draws, images = ViewDraws(0, 0, 1, torch.arange(40)), random_pixels(40)
    made = make_view(images, draws, config, compiled=True)
    assert torch.equal(made, make_view(images, draws, config))


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    """Sets what compiles; afterwards nothing is left of it."""
    torch.compiler.reset()
    uniform_views._compiled.cache_clear()
    own = torch.compile
    yield lambda backend: monkeypatch.setattr(torch, "compile", partial(own, backend=backend))
    uniform_views._compiled.cache_clear()
    torch.compiler.reset()


def compare_compiled(steps: int) -> None:
    """Views of photographs of equal and of unequal size, drawn anew in every step."""
    count, rows = 32, torch.arange(32)
    config = ViewsConfig(recipe="moco_v3", size=24)
    for step in range(steps):
        pixels = random_pixels(count)
        images = [image[:, : 30 - step, : 34 - i % 3] for i, image in enumerate(pixels)]
        for view in (1, 2):
            draws = ViewDraws(0, step, view, rows)
            photos = RECIPES["moco_v3"](torch.tensor([x.shape[1:] for x in images]), draws, config)
            assert isinstance(photos, Photos)
            expected = torch.empty((count, 3, 24, 24))
            normalize_into(expected, photos.views(images, 24), MEAN, STD)
            written = torch.empty_like(expected, memory_format=torch.channels_last)
            with torch.inference_mode():  # as `make_view` calls it, else it is compiled anew
                write_compiled(written, PackedImages.of(images), photos, MEAN, STD)
            assert_close(written, expected)
            made = make_view(pixels, draws, config, channels_last=True, compiled=True)
            assert not made.is_inference()
            assert_close(made, make_view(pixels, draws, config))


def test_a_run_compiles_its_two_views_and_one_crop(
    compiler: Callable[[Any], None],
) -> None:
    counter = CompileCounter()
    compiler(counter)
    compare_compiled(steps=3)
    assert counter.frame_count == 2 + 1


@pytest.mark.slow
def test_compiled_by_the_compiler_for_gpus(compiler: Callable[[Any], None]) -> None:
    compiler("inductor")
    compare_compiled(steps=2)
