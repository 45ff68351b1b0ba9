"""Tests of the views for labels, each operation against torchvision."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import AutoAugment, AutoAugmentPolicy, autoaugment
from torchvision.transforms import functional as tv

from linear_eval.system.errors import InputError
from ssl_bf.views.auto_augment import BINS, POLICIES, AutoAugments, operate, strength_of
from ssl_bf.views.padded_crops import PAD, PaddedCrops, cut_out, pad_and_crop
from ssl_bf.views.photo_views import Photos
from ssl_bf.views.recipes import RECIPES, ViewsConfig, make_view
from ssl_bf.views.view_draws import ViewDraws

SIZE, MANY = 16, 3000
OPERATIONS = sorted({each[0] for pair in POLICIES for each in pair})


def pixels(count: int, side: int = SIZE) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (count, 3, side, side), generator=generator)
    ramp = torch.arange(side) * 8
    return ((noise // 2 + ramp) % 256).to(torch.uint8)


def draws(count: int, **named: int) -> ViewDraws:
    return ViewDraws(**{"seed": 0, "epoch": 0, "view": 1, **named}, image_ids=torch.arange(count))


def config(recipe: Any, **keys: Any) -> ViewsConfig:
    return ViewsConfig(recipe=recipe, size=SIZE, **keys)


def drawn(count: int, **keys: Any) -> PaddedCrops:
    sizes = torch.full((count, 2), SIZE)
    found = RECIPES["pad_crop"](sizes, draws(count), config("pad_crop", **keys))
    assert isinstance(found, PaddedCrops)
    return found


def unnormalised(view: Tensor, settings: ViewsConfig) -> Tensor:
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (settings.mean, settings.std))
    return view * std + mean


def test_crop_flip_is_torchvisions_resized_crop_and_flip() -> None:
    settings, images = config("crop_flip", min_scale=0.1), pixels(30, 24)
    found = make_view(images, draws(30), settings)
    sizes = torch.full((30, 2), 24)
    photos = RECIPES["crop_flip"](sizes, draws(30), settings)
    assert isinstance(photos, Photos)
    for image, box, flip, view in zip(images, photos.box, photos.flip, found, strict=True):
        expected = tv.resized_crop(image.float() / 255, *box.tolist(), [SIZE, SIZE], antialias=True)
        expected = tv.hflip(expected) if flip else expected
        torch.testing.assert_close(unnormalised(view, settings), expected, rtol=0, atol=1e-5)
    assert 0 < int(photos.flip.sum()) < 30


def test_crop_flip_draws_the_boxes_of_the_other_recipes() -> None:
    sizes = torch.full((20, 2), 24)
    boxes = [
        RECIPES[name](sizes, draws(20), config(name)).box  # type: ignore[union-attr]
        for name in ("crop_flip", "moco_v2")
    ]
    assert torch.equal(*boxes)


def test_pad_crop_is_torchvisions_pad_crop_and_flip() -> None:
    images, found = pixels(60), drawn(60)
    views = pad_and_crop(images, found.corner, found.flip)
    for image, (top, left), flip, view in zip(
        images, found.corner.tolist(), found.flip, views, strict=True
    ):
        expected = tv.crop(tv.pad(image, [PAD]), top, left, SIZE, SIZE)
        assert torch.equal(view, tv.hflip(expected) if flip else expected)


def test_corners_flips_and_holes_are_drawn_evenly() -> None:
    found = drawn(MANY, cutout=4)
    for values, choices in ((found.corner, 2 * PAD + 1), (found.hole, SIZE)):
        for column in values.unbind(1):
            counts = column.bincount(minlength=choices)
            assert len(counts) == choices
            expected = MANY / choices
            assert float(((counts - expected) ** 2 / expected).sum()) < 4 * choices
    assert abs(float(found.flip.float().mean()) - 0.5) < 4 * math.sqrt(0.25 / MANY)


@pytest.mark.parametrize("side", [1, 5, 8, 64])
def test_cutout_is_torchvisions_erase_of_what_is_inside(side: int) -> None:
    views = pixels(40).float() / 255
    hole, fill = drawn(40, cutout=side).hole, (0.1, 0.2, 0.3)
    found = cut_out(views.clone(), hole, side, fill)
    for view, (row, column), cut in zip(views, hole.tolist(), found, strict=True):
        top, left = row - side // 2, column - side // 2
        bottom, right = min(SIZE, top + side), min(SIZE, left + side)
        top, left = max(0, top), max(0, left)
        value = torch.tensor(fill).view(3, 1, 1)
        assert torch.equal(cut, tv.erase(view, top, left, bottom - top, right - left, value))


def test_what_is_cut_out_becomes_zero() -> None:
    settings = config("pad_crop", cutout=4 * SIZE)
    view = make_view(pixels(3), draws(3), settings)
    torch.testing.assert_close(view, torch.zeros_like(view), rtol=0, atol=1e-6)


def test_the_policies_are_torchvisions() -> None:
    theirs = AutoAugment(AutoAugmentPolicy.CIFAR10).policies
    assert (
        tuple(tuple((name, p, number or 0) for name, p, number in pair) for pair in theirs)
        == POLICIES
    )


@pytest.mark.parametrize("side", [SIZE, 32])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_of_a_batch_is_torchvisions_of_each_image(operation: str, side: int) -> None:
    ranges, is_signed = AutoAugment()._augmentation_space(BINS, (side, side))[operation]
    images = pixels(4, side)
    for number in range(BINS) if ranges.ndim else [0]:
        for negative in (False, True):
            strength = float(ranges[number]) if ranges.ndim else 0.0
            strength = -strength if negative and is_signed else strength
            ours = strength_of(operation, number, side, negative)
            assert ours == pytest.approx(strength, rel=1e-6)
            found = operate(images, operation, strength)
            assert found.dtype == torch.uint8
            for image, view in zip(images, found, strict=True):
                expected = autoaugment._apply_op(
                    image, operation, strength, tv.InterpolationMode.NEAREST, None
                )
                assert torch.equal(view, expected), (operation, number)


def test_each_image_goes_through_its_own_two_operations() -> None:
    images, found = pixels(300), drawn(300, auto_augment=True).augments
    assert found is not None
    views = found.apply(images)
    for row, view in enumerate(views):
        expected = images[row : row + 1]
        for turn, (operation, _, number) in enumerate(POLICIES[int(found.policy[row])]):
            if found.applied[row, turn]:
                negative = bool(found.negative[row, turn])
                expected = operate(
                    expected, operation, strength_of(operation, number, SIZE, negative)
                )
        assert torch.equal(view, expected[0])


def test_policies_are_drawn_evenly_and_operations_with_their_probabilities() -> None:
    found = AutoAugments.drawn(draws(20 * MANY).uniform("auto augment", 5))
    assert len(found.policy.bincount()) == len(POLICIES)
    for number, pair in enumerate(POLICIES):
        mine = found.policy == number
        count = int(mine.sum())
        assert abs(count / len(found.policy) - 1 / len(POLICIES)) < 0.004
        for turn, (_, probability, _) in enumerate(pair):
            share = float(found.applied[mine, turn].float().mean())
            allowed = 4 * math.sqrt(probability * (1 - probability) / count)
            assert abs(share - probability) <= allowed
    assert abs(float(found.negative.float().mean()) - 0.5) < 0.01


KEYS: dict[str, dict[str, Any]] = {
    "crop_flip": {},
    "pad_crop": {"auto_augment": True, "cutout": 8},
}


@pytest.mark.parametrize("recipe", KEYS)
def test_a_view_depends_on_seed_epoch_view_and_image_alone(recipe: str) -> None:
    images, settings = pixels(40), config(recipe, **KEYS[recipe])
    whole = make_view(images, draws(40), settings)
    for rows in (slice(0, 1), slice(7, 20)):
        some = ViewDraws(0, 0, 1, torch.arange(40)[rows])
        torch.testing.assert_close(
            make_view(images[rows], some, settings), whole[rows], rtol=0, atol=1e-6
        )
    for other in ({"seed": 1}, {"epoch": 1}, {"view": 2}):
        assert not torch.equal(make_view(images, draws(40, **other), settings), whole)


def test_auto_augment_and_cutout_leave_crops_and_flips_alone() -> None:
    plain, both = drawn(50), drawn(50, auto_augment=True, cutout=3)
    assert torch.equal(plain.corner, both.corner)
    assert torch.equal(plain.flip, both.flip)
    assert plain.augments is None
    part = both[10:20]
    assert len(part.flip) == len(part.hole) == 10
    assert part.augments is not None
    assert both.augments is not None
    assert torch.equal(part.augments.policy, both.augments.policy[10:20])
    assert {each.name for each in dataclasses.fields(part)} == set(vars(part))


def test_pad_crop_refuses_images_of_another_size() -> None:
    with pytest.raises(InputError, match=r"^views\.recipe: pad_crop needs .*one has 24 x 24"):
        make_view(pixels(2, 24), draws(2), config("pad_crop"))


@pytest.mark.parametrize(
    ("recipe", "keys", "said"),
    [
        ("moco_v2", {"auto_augment": True}, "auto_augment: goes with recipe=pad_crop"),
        ("crop_flip", {"cutout": 4}, "cutout: goes with recipe=pad_crop"),
        ("pad_crop", {"cutout": -1}, "cutout: must be >= 0"),
    ],
)
def test_keys_without_meaning_are_refused(recipe: Any, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(recipe, **keys)


@pytest.mark.parametrize("recipe", ["crop_flip", "pad_crop"])
def test_lightly_has_no_such_recipe(recipe: Any) -> None:
    with pytest.raises(InputError, match="engine: lightly has no transform"):
        config(recipe, engine="lightly")
