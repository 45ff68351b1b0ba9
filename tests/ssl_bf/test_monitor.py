"""Tests of ssl_bf.monitor: weighted k-NN of the hold-out during training."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NoReturn

import pytest
import torch
from torch import Tensor, nn

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decode import BadImageError
from linear_eval.datasets.selection import split_holdout
from linear_eval.datasets.textures import TexturesConfig
from ssl_bf.monitor import Monitor
from ssl_bf.views.recipes import ViewsConfig

SIZE = 8
VIEWS = ViewsConfig(recipe="textures", size=SIZE, mean=(0.5, 0.4, 0.3), std=(0.25, 0.3, 0.2))


class Flat(nn.Module):
    """A BatchNorm over coarse pixels: what it gives depends on its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        features: Tensor = self.norm(images)
        return features.flatten(1)


@pytest.fixture(scope="module")
def splits() -> tuple[ImageSplit, ImageSplit]:
    return split_holdout(TexturesConfig(train_images=80).open_train(), 0.25)


def monitor_of(splits: tuple[ImageSplit, ImageSplit]) -> Monitor:
    gallery, holdout = splits
    return Monitor(gallery=gallery, holdout=holdout, views=VIEWS, device=torch.device("cpu"))


def by_hand(splits: tuple[ImageSplit, ImageSplit], k: int) -> float:
    """Weighted k-NN in loops: exp(similarity / 0.07), the lower class wins a tie."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (VIEWS.mean, VIEWS.std))
    features = []
    for split in splits:
        rows = []
        for number in range(len(split)):
            image = nn.functional.interpolate(
                split.read(number)[None], size=(SIZE, SIZE), mode="bilinear", antialias=True
            )[0]
            row = ((image.float() / 255 - mean) / std).flatten()
            rows.append(row / math.sqrt(1 + 1e-5))  # BatchNorm in eval mode, as it starts
        features.append(rows)
    right = 0
    for number, query in enumerate(features[1]):
        near = [
            (float(torch.cosine_similarity(query.double(), row.double(), dim=0)), label)
            for row, label in zip(features[0], splits[0].labels.tolist(), strict=True)
        ]
        votes: dict[int, float] = {}
        for similarity, label in sorted(near, key=lambda pair: -pair[0])[:k]:
            votes[label] = votes.get(label, 0.0) + math.exp(similarity / 0.07)
        best = max(sorted(votes), key=lambda label: votes[label])
        right += best == int(splits[1].labels[number])
    return 100 * right / len(features[1])


def test_it_is_the_weighted_vote_of_20_neighbours_over_resized_normalised_images(
    splits: tuple[ImageSplit, ImageSplit],
) -> None:
    measured = monitor_of(splits)(Flat())
    assert measured == pytest.approx(by_hand(splits, 20))
    assert measured != pytest.approx(by_hand(splits, 1))  # or the number of votes goes unseen


def test_a_gallery_of_fewer_than_20_votes_as_a_whole(
    splits: tuple[ImageSplit, ImageSplit],
) -> None:
    small = splits[0].select(torch.arange(7)), splits[1]
    assert monitor_of(small)(Flat()) == pytest.approx(by_hand(small, 7))


def test_it_leaves_modes_buffers_and_gradients_as_they_were(
    splits: tuple[ImageSplit, ImageSplit],
) -> None:
    backbone = nn.Sequential(Flat(), nn.Dropout()).train()
    backbone[1].eval()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    monitor_of(splits)(backbone)
    assert backbone.training
    assert backbone[0].training
    assert not backbone[1].training
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_it_is_float32_inside_a_bf16_run(splits: tuple[ImageSplit, ImageSplit]) -> None:
    alone, inside = Flat(), Flat()
    expected = monitor_of(splits)(alone)
    with torch.autocast("cpu", torch.bfloat16):
        assert monitor_of(splits)(inside) == expected
    assert {images.dtype for images in inside.seen} == {torch.float32}


def test_bad_images_end_the_run_or_are_left_out_as_asked(
    splits: tuple[ImageSplit, ImageSplit],
) -> None:
    def broken(split: ImageSplit) -> ImageSplit:
        """On disk instead of in memory, with a second image that cannot be read."""

        def read(index: int) -> Tensor:
            return fail() if index == 1 else split.read(index)

        return replace(split, read=read, pixels=None)

    def fail() -> NoReturn:
        raise BadImageError("train/b.jpg: cannot be decoded, expected an image; delete it")

    monitor = monitor_of((broken(splits[0]), broken(splits[1])))
    with pytest.raises(BadImageError, match="train/b.jpg"):
        monitor(Flat())
    gallery, holdout = (
        split.select(torch.tensor([row for row in range(len(split)) if row != 1]))
        for split in splits
    )
    skipping = replace(monitor, on_bad_image="skip")
    assert skipping(Flat()) == monitor_of((gallery, holdout))(Flat())


def test_a_hold_out_that_shares_images_with_the_gallery_is_told_of_once(
    splits: tuple[ImageSplit, ImageSplit],
) -> None:
    gallery, _ = splits
    assert monitor_of(splits).new_notes() == []
    both = gallery.select(torch.arange(10))
    monitor = monitor_of((gallery, both))
    assert monitor.new_notes() == [
        "monitor: data: 10 of 10 hold-out images (100.0 %) are also in the gallery, byte for "
        "byte, so the numbers are too high"
    ]
    assert monitor.new_notes() == []
