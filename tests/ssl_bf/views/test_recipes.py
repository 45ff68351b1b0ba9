import dataclasses
import math
from typing import Any, Literal, get_args

import pytest
import torch
from torch import Tensor

from linear_eval.system.errors import InputError
from ssl_bf.views import write_views
from ssl_bf.views.colour_ops import NEUTRAL
from ssl_bf.views.photo_views import Photo, Photos
from ssl_bf.views.recipes import RECIPES, ViewsConfig, make_view, make_views
from ssl_bf.views.texture_views import TextureWindows
from ssl_bf.views.view_draws import ViewDraws

RecipeName = Literal["moco_v2", "moco_v3", "simsiam", "textures", "crop_flip", "pad_crop"]
PAPERS: tuple[RecipeName, ...] = ("moco_v2", "moco_v3", "simsiam")
ALL: tuple[RecipeName, ...] = (*PAPERS, "textures", "crop_flip", "pad_crop")
# The mean that contrast pulls towards may be summed in another order in a batch of one.
ROUNDING = 1e-5


def random_pixels(count: int, height: int = 12, width: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


def draws(count: int, *, view: int = 1, epoch: int = 0, seed: int = 0) -> ViewDraws:
    return ViewDraws(seed, epoch, view, torch.arange(count))


def photos(
    recipe: RecipeName, count: int, *, view: int = 1, side: int = 8, **config: Any
) -> Photos:
    """What a recipe draws for square images."""
    views_config = ViewsConfig(recipe=recipe, size=8, **config)
    sizes = torch.full((count, 2), side)
    drawn = RECIPES[recipe](sizes, draws(count, view=view), views_config)
    assert isinstance(drawn, Photos)
    return drawn


def assert_share(mask: Tensor, share: float) -> None:
    assert abs(float(mask.float().mean()) - share) <= 4 * math.sqrt(share * (1 - share) / len(mask))


def assert_uniform(values: Tensor, low: float, high: float) -> None:
    ordered = ((values.double() - low) / (high - low)).sort().values
    steps = torch.arange(1, len(ordered) + 1) / len(ordered)
    # Kolmogorov-Smirnov: exceeded by chance in 1 of 1,000
    assert float((ordered - steps).abs().max()) * math.sqrt(len(ordered)) < 1.95


def largest_correlation(columns: list[Tensor]) -> float:
    related = torch.corrcoef(torch.stack([column.float() for column in columns]))
    return float((related - torch.eye(len(columns))).abs().max())


@pytest.mark.parametrize(
    ("recipe", "view", "saturation", "blur"),
    [
        ("moco_v2", 1, 0.4, 0.5),
        ("simsiam", 2, 0.4, 0.5),
        ("moco_v3", 1, 0.2, 1),
        ("moco_v3", 2, 0.2, 0.1),
    ],
)
def test_parameters_are_distributed_as_the_paper_says(
    recipe: RecipeName, view: int, saturation: float, blur: float
) -> None:
    count = 4000
    drawn = photos(recipe, count, view=view)
    assert_share(drawn.flip, 0.5)
    neutral = torch.tensor(NEUTRAL)
    jittered = (drawn.factors != neutral).any(1)
    assert_share(jittered, 0.8)
    for column, strength in enumerate((0.4, 0.4, saturation, 0.1)):
        middle = float(neutral[column])
        assert_uniform(drawn.factors[jittered, column], middle - strength, middle + strength)
    numbers = drawn.order @ torch.tensor([64, 16, 4, 1])
    kinds, occurrences = numbers.unique(return_counts=True)
    assert len(kinds) == 24
    chi_square = float(((occurrences - count / 24) ** 2 / (count / 24)).sum())
    assert chi_square < 50  # 23 degrees of freedom: exceeded by chance in 1 of 1,000
    assert_share(drawn.gray, 0.2)
    assert_share(drawn.sigma > 0, blur)
    assert_uniform(drawn.sigma[drawn.sigma > 0], 0.1, 2.0)
    assert_share(drawn.solarize, 0.2 if (recipe, view) == ("moco_v3", 2) else 0.0)


def test_the_choices_for_an_image_are_independent_of_each_other() -> None:
    count = 4000
    drawn = photos("moco_v3", count, view=2)
    flip, gray, top, solarize = drawn.flip, drawn.gray, drawn.box[:, 0], drawn.solarize
    jittered = (drawn.factors[:, :3] != 1).any(1)
    for operation in range(4):
        turn = (drawn.order == operation).int().argmax(1)
        columns = [flip, top, gray, jittered, turn, solarize, drawn.sigma > 0]
        assert largest_correlation(columns) < 4 / math.sqrt(count)
    strengths = [column[jittered] for column in (flip, gray, *drawn.factors.unbind(1))]
    assert largest_correlation(strengths) < 4 / math.sqrt(int(jittered.sum()))


def test_min_scale_bounds_the_crops() -> None:
    box = photos("moco_v2", 500, side=60, min_scale=0.6).box
    area = box[:, 2] * box[:, 3] / 3_600
    assert 0.59 < area.min() < 0.62  # side lengths are rounded to pixels
    assert area.max() > 0.98


@pytest.mark.parametrize("recipe", PAPERS)
def test_blur_can_be_switched_off_and_nothing_else_changes(recipe: RecipeName) -> None:
    without, usual = photos(recipe, 20, view=2, blur=False), photos(recipe, 20, view=2)
    assert not without.sigma.any()
    for name in Photo._fields:
        assert name == "sigma" or torch.equal(getattr(without, name), getattr(usual, name))


def test_texture_windows_are_distributed_as_documented() -> None:
    config = ViewsConfig(recipe="textures", size=4, min_scale=0.5)
    drawn = RECIPES["textures"](torch.full((3000, 2), 4), draws(3000), config)
    assert isinstance(drawn, TextureWindows)
    assert_uniform(drawn.angle.rad2deg(), -54, 54)
    assert_uniform(drawn.side**2, 0.5, 1)
    assert_share(drawn.flip, 0.5)
    room = 1 - drawn.side[:, None]  # the unrotated window stays inside the image
    assert_uniform((drawn.centre / room)[:, 0], -1, 1)
    assert_uniform((drawn.centre / room)[:, 1], -1, 1)


@pytest.mark.parametrize("recipe", ALL)
@pytest.mark.parametrize("view", [1, 2])
def test_a_view_does_not_depend_on_the_batch_it_is_made_in(
    recipe: RecipeName, view: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, config = random_pixels(60, 16, 16), ViewsConfig(recipe=recipe, size=16)
    together = make_view(pixels, draws(60, view=view), config)
    rows = torch.tensor([59, 3, 17])
    few = make_view(pixels[rows], ViewDraws(0, 0, view, rows), config)
    torch.testing.assert_close(few, together[rows], rtol=0, atol=ROUNDING)
    monkeypatch.setattr(write_views, "CHUNK_BYTES", 1)
    in_chunks = make_view(pixels, draws(60, view=view), config)
    torch.testing.assert_close(in_chunks, together, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("recipe", ALL)
def test_epoch_seed_view_and_image_all_change_a_view(recipe: RecipeName) -> None:
    pixels, config = random_pixels(1).expand(2, -1, -1, -1), ViewsConfig(recipe=recipe, size=12)
    first = make_view(pixels, draws(2), config)
    assert torch.equal(first, make_view(pixels, draws(2), config))
    for other in (draws(2, view=2), draws(2, epoch=1), draws(2, seed=1)):
        assert (make_view(pixels, other, config) - first).abs().mean() > 0.05
    assert (first[0] - first[1]).abs().mean() > 0.05


def test_simsiam_makes_the_views_of_moco_v2() -> None:
    pixels = random_pixels(4)
    first, second = (
        make_view(pixels, draws(4), ViewsConfig(recipe=recipe, size=12))
        for recipe in ("moco_v2", "simsiam")
    )
    assert torch.equal(first, second)


def test_large_views_are_made_one_at_a_time_and_do_not_depend_on_the_batch_either() -> None:
    pixels, config = random_pixels(20, 70, 80), ViewsConfig(recipe="moco_v3", size=66)
    together = make_view(pixels, draws(20, view=2), config)
    rows = torch.tensor([19, 3, 7])
    few = make_view(list(pixels[rows]), ViewDraws(0, 0, 2, rows), config)
    assert torch.equal(few, together[rows])


@pytest.mark.parametrize(("recipe", "size"), [("moco_v3", 12), ("moco_v3", 66), ("textures", 12)])
def test_views_made_together_are_those_made_one_after_the_other(recipe: Any, size: int) -> None:
    pixels, config = random_pixels(9, 70, 70), ViewsConfig(recipe=recipe, size=size)
    together = make_views(pixels, [draws(9, view=1), draws(9, view=2)], config)
    for view, one in enumerate(together, start=1):
        assert torch.equal(one, make_view(pixels, draws(9, view=view), config))


@pytest.mark.parametrize("size", [12, 66])
def test_a_network_can_be_trained_on_views(size: int) -> None:
    views = make_view(random_pixels(3), draws(3), ViewsConfig(recipe="moco_v2", size=size))
    network = torch.nn.Conv2d(3, 2, 3)
    network(views).sum().backward()
    assert network.weight.grad is not None


@pytest.mark.parametrize("recipe", PAPERS)
def test_images_of_unequal_size_give_the_views_they_give_alone(recipe: RecipeName) -> None:
    images = [random_pixels(1, height, 20)[0] for height in (20, 31, 14)]
    config = ViewsConfig(recipe=recipe, size=16)
    made = make_view(images, draws(3), config)
    for i, image in enumerate(images):
        alone = make_view([image], ViewDraws(0, 0, 1, torch.tensor([i])), config)
        torch.testing.assert_close(made[i : i + 1], alone, rtol=0, atol=5 * ROUNDING)


def test_textures_refuses_images_it_would_shear() -> None:
    config = ViewsConfig(recipe="textures", size=8)
    for images in ([random_pixels(1, n, n)[0] for n in (8, 9)], random_pixels(2, 8, 9)):
        with pytest.raises(InputError, match=r"^views.recipe: 'textures' needs square images"):
            make_view(images, draws(2), config)


@pytest.mark.parametrize("size", [12, 66])
def test_channels_last_changes_the_layout_only(size: int) -> None:
    pixels, config = random_pixels(4), ViewsConfig(recipe="moco_v2", size=size)
    plain = make_view(pixels, draws(4), config)
    other = make_view(pixels, draws(4), config, channels_last=True)
    assert plain.is_contiguous()
    assert other.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain, other)


def test_a_view_is_float32_even_where_the_caller_trains_in_bf16() -> None:
    pixels, config = random_pixels(4), ViewsConfig(recipe="moco_v2", size=12)
    expected = make_view(pixels, draws(4), config)
    with torch.autocast("cpu", torch.bfloat16):
        made = make_view(pixels, draws(4), config)
    assert torch.equal(made, expected)


def test_making_views_draws_nothing_from_the_global_generator() -> None:
    state = torch.get_rng_state()
    make_view(random_pixels(4), draws(4), ViewsConfig(recipe="moco_v3", size=12))
    assert torch.equal(torch.get_rng_state(), state)


def test_every_recipe_of_the_config_has_a_function_of_its_name() -> None:
    fields = {field.name: field.type for field in dataclasses.fields(ViewsConfig)}
    assert set(get_args(fields["recipe"])) == set(RECIPES) == set(ALL)
    for name, recipe in RECIPES.items():
        assert recipe.__name__ == name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 1}, r"^size: must be >= 2, got 1$"),
        ({"min_scale": 0.0}, r"^min_scale: must be in \(0, 1\], got 0.0$"),
        ({"min_scale": 1.5}, r"^min_scale: "),
        ({"min_scale": math.nan}, r"^min_scale: "),
        ({"std": (0.2, 0.0, 0.2)}, r"^std: must be > 0"),
        ({"std": (0.2, math.nan, 0.2)}, r"^std: must be > 0"),
        ({"mean": (0.2, math.inf, 0.2)}, r"^mean: must be finite"),
        ({"recipe": "textures", "engine": "lightly"}, r"^engine: lightly has no transform"),
    ],
)
def test_values_without_meaning_are_refused(changes: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {"recipe": "moco_v2", "size": 32} | changes
    with pytest.raises(ValueError, match=message):
        ViewsConfig(**values)
