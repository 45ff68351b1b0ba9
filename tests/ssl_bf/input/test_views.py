import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import pytest
import torch
import torchvision.transforms.v2.functional as reference
from torch import Tensor

from linear_eval.errors import InputError
from ssl_bf.input import views
from ssl_bf.input.view_draws import ViewDraws
from ssl_bf.input.views import RECIPES, ViewsConfig, make_view

RecipeName = Literal["moco_v2", "moco_v3", "simsiam", "textures"]
PAPERS: tuple[RecipeName, ...] = ("moco_v2", "moco_v3", "simsiam")
ALL: tuple[RecipeName, ...] = (*PAPERS, "textures")
# The mean that contrast pulls towards may be summed in another order in a batch of one.
ROUNDING = 1e-5

Recorder = Callable[[str], list[tuple[Any, ...]]]


def random_pixels(count: int, height: int = 12, width: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


def draws(count: int, *, view: int = 1, epoch: int = 0, seed: int = 0) -> ViewDraws:
    return ViewDraws(seed, epoch, view, torch.arange(count))


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Record the arguments that a recipe passes to an operation, which still runs."""

    def start(name: str) -> list[tuple[Any, ...]]:
        calls: list[tuple[Any, ...]] = []
        operation = getattr(views, name)

        def spy(*arguments: Any, **keywords: Any) -> Any:
            calls.append((*arguments, keywords))
            return operation(*arguments, **keywords)

        monkeypatch.setattr(views, name, spy)
        return calls

    return start


def gathered(calls: list[tuple[Any, ...]], argument: int) -> Tensor:
    return torch.cat([call[argument] for call in calls])


def assert_share(mask: Tensor | int, share: float, count: int) -> None:
    occurred = mask if isinstance(mask, int) else int(mask.sum())
    assert abs(occurred / count - share) <= 4 * math.sqrt(share * (1 - share) / count)


def assert_uniform(values: Tensor, low: float, high: float) -> None:
    ordered = ((values.double() - low) / (high - low)).sort().values
    steps = torch.arange(1, len(ordered) + 1) / len(ordered)
    # Kolmogorov-Smirnov: exceeded by chance in 1 of 1,000
    assert float((ordered - steps).abs().max()) * math.sqrt(len(ordered)) < 1.95


def largest_correlation(columns: list[Tensor]) -> float:
    related = torch.corrcoef(torch.stack([column.float() for column in columns]))
    return float((related - torch.eye(len(columns))).abs().max())


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(("recipe", "view"), [("moco_v2", 1), ("moco_v3", 1), ("moco_v3", 2)])
def test_a_recipe_equals_torchvision_image_by_image(
    recipe: RecipeName, view: int, large: bool, record: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    each, size = ("_each", 66) if large else ("", 24)  # large ones are made one at a time
    crops, jitters = record(f"crop_and_resize{each}"), record("colour_jitter")
    grays, blurs = record("grayscale_"), record(f"gaussian_blur{each}_")
    solarizations = record("solarize_")
    monkeypatch.setattr(views, "CHUNK_BYTES", 10_000_000)  # one call for all
    pixels = random_pixels(40, 70 if large else 30, 26)
    config = ViewsConfig(recipe=recipe, size=size)
    made = make_view(pixels, draws(40, view=view), config)

    ((_, boxes, flip, _, _),) = crops
    ((_, factors, order, _),) = jitters
    gray, blurred = grays[0][1].tolist(), blurs[0][1].tolist()
    solarized = solarizations[0][1].tolist() if solarizations else []
    assert gray
    assert blurred
    assert bool(solarized) == (recipe == "moco_v3" and view == 2)
    adjust = [
        reference.adjust_brightness,
        reference.adjust_contrast,
        reference.adjust_saturation,
        reference.adjust_hue,
    ]
    for i in range(40):
        # bytes stay bytes where images are resized one at a time
        source = pixels[i] if large else pixels[i] / 255
        expected = reference.resized_crop(source, *boxes[i].tolist(), [size, size])
        expected = expected / 255 if large else expected
        if flip[i]:
            expected = reference.horizontal_flip(expected)
        for operation in order[i].tolist():
            expected = adjust[operation](expected, float(factors[i, operation]))
        if i in gray:
            expected = reference.rgb_to_grayscale(expected, 3)
        if i in blurred:
            sigma = float(blurs[0][2][blurred.index(i)])
            expected = reference.gaussian_blur(expected, [23, 23], [sigma, sigma])
        if i in solarized:
            # not quite 128, which either side may reach or just miss
            expected = reference.solarize(expected, threshold=128 / 255 - 1e-6)
        expected = reference.normalize(expected, list(config.mean), list(config.std))
        # Normalising divides errors by 0.22; solarize jumps for values at its threshold.
        close = (made[i] - expected).abs() < 5 * ROUNDING
        assert close.float().mean() > (0.999 if i in solarized else 0.999999)


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
    recipe: RecipeName, view: int, saturation: float, blur: float, record: Recorder
) -> None:
    count = 4000
    crops, jitters = record("crop_and_resize"), record("colour_jitter")
    grays, blurs = record("grayscale_"), record("gaussian_blur_")
    solarizations = record("solarize_")
    make_view(
        random_pixels(count, 4, 4), draws(count, view=view), ViewsConfig(recipe=recipe, size=4)
    )

    assert_share(gathered(crops, 2), 0.5, count)
    factors = gathered(jitters, 1)
    neutral = torch.tensor([1.0, 1.0, 1.0, 0.0])
    jittered = (factors != neutral).any(1)
    assert_share(jittered, 0.8, count)
    for column, strength in enumerate((0.4, 0.4, saturation, 0.1)):
        middle = float(neutral[column])
        assert_uniform(factors[jittered, column], middle - strength, middle + strength)
    order = gathered(jitters, 2)
    numbers = order @ torch.tensor([64, 16, 4, 1])
    kinds, occurrences = numbers.unique(return_counts=True)
    assert len(kinds) == 24
    chi_square = float(((occurrences - count / 24) ** 2 / (count / 24)).sum())
    assert chi_square < 50  # 23 degrees of freedom: exceeded by chance in 1 of 1,000
    assert_share(sum(len(call[1]) for call in grays), 0.2, count)
    sigma = gathered(blurs, 2)
    assert_share(len(sigma), blur, count)
    assert_uniform(sigma, 0.1, 2.0)
    solarized = sum(len(call[1]) for call in solarizations)
    assert_share(solarized, 0.2 if (recipe, view) == ("moco_v3", 2) else 0.0, count)


def test_the_choices_for_an_image_are_independent_of_each_other(record: Recorder) -> None:
    count = 4000
    crops, jitters, grays = record("crop_and_resize"), record("colour_jitter"), record("grayscale_")
    make_view(random_pixels(count, 4, 4), draws(count), ViewsConfig(recipe="moco_v3", size=4))
    gray = torch.zeros(count)
    offset = 0
    for call in grays:
        gray[call[1] + offset] = 1
        offset += len(call[0])
    flip, top = gathered(crops, 2), gathered(crops, 1)[:, 0]
    factors, order = gathered(jitters, 1), gathered(jitters, 2)
    jittered = (factors[:, :3] != 1).any(1)
    for operation in range(4):
        turn = (order == operation).int().argmax(1)
        assert largest_correlation([flip, top, gray, jittered, turn]) < 4 / math.sqrt(count)
    strengths = [column[jittered] for column in (flip, gray, *factors.unbind(1))]
    assert largest_correlation(strengths) < 4 / math.sqrt(int(jittered.sum()))


def test_min_scale_bounds_the_crops(record: Recorder) -> None:
    crops = record("crop_and_resize")
    config = ViewsConfig(recipe="moco_v2", size=8, min_scale=0.6)
    make_view(random_pixels(500, 60, 60), draws(500), config)
    boxes = gathered(crops, 1)
    area = boxes[:, 2] * boxes[:, 3] / 3_600
    assert 0.59 < area.min() < 0.62  # side lengths are rounded to pixels
    assert area.max() > 0.98


@pytest.mark.parametrize("recipe", PAPERS)
def test_blur_can_be_switched_off(recipe: RecipeName, record: Recorder) -> None:
    blurs = record("gaussian_blur_")
    make_view(random_pixels(20), draws(20), ViewsConfig(recipe=recipe, size=8, blur=False))
    assert not blurs


def test_texture_windows_are_distributed_as_documented(record: Recorder) -> None:
    count = 3000
    windows = record("rotate_and_crop")
    config = ViewsConfig(recipe="textures", size=4, min_scale=0.5)
    make_view(random_pixels(count, 4, 4), draws(count), config)
    angle, side, centre, flip = (
        torch.cat([call[-1][name] for call in windows])
        for name in ("angle", "side", "centre", "flip")
    )
    assert_uniform(angle.rad2deg(), -54, 54)
    assert_uniform(side**2, 0.5, 1)
    assert_share(flip, 0.5, count)
    room = 1 - side[:, None]  # the unrotated window stays inside the image
    assert_uniform((centre / room)[:, 0], -1, 1)
    assert_uniform((centre / room)[:, 1], -1, 1)


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
    monkeypatch.setattr(views, "CHUNK_BYTES", 1)
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
    for images in ([random_pixels(1)[0]] * 2, random_pixels(2, 8, 9)):
        with pytest.raises(InputError, match=r"^views.recipe: 'textures' needs square images"):
            make_view(images, draws(2), config)


def test_channels_last_changes_the_layout_only() -> None:
    pixels, config = random_pixels(4), ViewsConfig(recipe="moco_v2", size=12)
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
