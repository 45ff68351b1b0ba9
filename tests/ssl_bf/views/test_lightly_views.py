import builtins
import random
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from linear_eval.system.errors import InputError
from ssl_bf.views.lightly_views import (
    lightly_transform,
    make_lightly_views,
    seeded_global_generators,
)
from ssl_bf.views.recipes import ViewsConfig, make_view
from ssl_bf.views.view_draws import ViewDraws

PaperRecipe = Literal["moco_v2", "moco_v3", "simsiam"]
RECIPES: tuple[PaperRecipe, ...] = ("moco_v2", "moco_v3", "simsiam")


def smooth_pixels(count: int) -> Tensor:
    """Colourful blobs, so that crops, colours and blur all show in the statistics."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    fine = torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear")
    return (fine * 255).to(torch.uint8)


def config_of(recipe: PaperRecipe, **changes: Any) -> ViewsConfig:
    return ViewsConfig(recipe=recipe, size=16, engine="lightly", **changes)


def make(
    config: ViewsConfig, ids: Tensor, *, seed: int = 0, epoch: int = 0
) -> tuple[Tensor, Tensor]:
    return make_lightly_views(smooth_pixels(64)[ids], ids, config, seed=seed, epoch=epoch)


@pytest.mark.parametrize("recipe", RECIPES)
def test_views_are_a_function_of_seed_epoch_and_image(recipe: PaperRecipe) -> None:
    config = config_of(recipe)
    first, second = make(config, torch.tensor([3, 8, 5]))
    assert first.shape == second.shape == (3, 3, 16, 16)
    alone, _ = make(config, torch.tensor([8]))
    assert torch.equal(alone[0], first[1])
    assert not torch.equal(first, second)
    twins = smooth_pixels(1).expand(2, -1, -1, -1)
    unlike, _ = make_lightly_views(twins, torch.tensor([3, 8]), config, seed=0, epoch=0)
    assert not torch.equal(unlike[0], unlike[1])
    for other, _ in (
        make(config, torch.tensor([3, 8, 5]), epoch=1),
        make(config, torch.tensor([3, 8, 5]), seed=1),
    ):
        assert not torch.equal(first, other)


def global_states() -> tuple[Any, list[int], list[int]]:
    numpy_state: Any = np.random.get_state()
    return random.getstate(), numpy_state[1].tolist(), torch.get_rng_state().tolist()


def test_the_global_generators_are_left_untouched() -> None:
    before = global_states()
    make(config_of("moco_v3"), torch.arange(4))
    assert global_states() == before


def test_the_global_generators_are_restored_after_a_failure() -> None:
    before = global_states()
    with pytest.raises(KeyError), seeded_global_generators(3):
        random.random()
        np.random.rand()
        torch.rand(1)
        raise KeyError
    assert global_states() == before


def test_seeded_scopes_repeat_all_three_generators() -> None:
    def numbers(seed: int) -> tuple[float, float, float]:
        with seeded_global_generators(seed):
            return random.random(), float(np.random.rand()), float(torch.rand(1))

    assert numbers(2**62 + 5) == numbers(2**62 + 5)
    assert not set(numbers(1)) & set(numbers(2))


STATISTICS: list[Callable[[Tensor], Tensor]] = [
    lambda views: views.mean((1, 2, 3)),  # brightness
    lambda views: views.std((2, 3)).mean(1),  # contrast
    lambda views: views.std(1).mean((1, 2)),  # colourfulness
    lambda views: (views[..., 1:] - views[..., :-1]).abs().mean((1, 2, 3)),  # sharpness
]


@pytest.mark.parametrize(
    ("recipe", "blur"), [("moco_v2", True), ("simsiam", False), ("moco_v3", True)]
)
def test_both_engines_give_views_with_the_same_statistics(recipe: PaperRecipe, blur: bool) -> None:
    count = 250
    ids, pixels = torch.arange(count), smooth_pixels(count)
    config = config_of(recipe, min_scale=0.3, blur=blur)
    theirs = make_lightly_views(pixels, ids, config, seed=0, epoch=0)
    for view in (1, 2):
        ours = make_view(pixels, ViewDraws(0, 0, view, ids), config)
        for statistic in STATISTICS:
            a, b = statistic(ours), statistic(theirs[view - 1])
            spread = float((a.var() + b.var()).sqrt()) / count**0.5
            assert abs(float(a.mean() - b.mean())) < 4 * spread


def test_the_config_reaches_lightly() -> None:
    white = [torch.full((3, 20, 20), 255, dtype=torch.uint8)]
    config = config_of("moco_v2", mean=(1.0, 0.5, 0.0), std=(1.0, 0.5, 0.25), min_scale=1.0)
    views = make_lightly_views(white, torch.tensor([0]), config, seed=0, epoch=0)
    brightest = torch.tensor([0.0, 1.0, 4.0])
    for view in views:
        scaled = view[0] * torch.tensor(config.std)[:, None, None]
        gray = scaled + torch.tensor(config.mean)[:, None, None]  # jitter keeps white gray
        assert (gray.amax(0) - gray.amin(0)).max() < 1e-5
        assert (view[0].amax((1, 2)) <= brightest + 1e-5).all()


def test_min_scale_reaches_lightly() -> None:
    halves = torch.zeros(8, 3, 20, 20, dtype=torch.uint8)
    halves[..., 10:] = 255
    config = config_of("simsiam", min_scale=1.0, blur=False)
    for views in make_lightly_views(halves, torch.arange(8), config, seed=0, epoch=0):
        gray = views.mean((1, 2))  # (8, 16): of every column
        middle = (gray.amax(1, keepdim=True) + gray.amin(1, keepdim=True)) / 2
        assert ((gray > middle).sum(1) == 8).all()  # the edge stays in the centre: nothing is cut


def test_without_lightly_the_user_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.startswith("lightly"):
            raise ModuleNotFoundError("No module named 'lightly'", name="lightly")
        return original(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match=r"^views.engine: lightly .*; pip install lightly, or set"):
        lightly_transform(config_of("moco_v2"))
