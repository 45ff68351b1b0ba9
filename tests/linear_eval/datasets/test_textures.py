"""The procedural data set: reproducible, balanced, and told apart by pattern alone."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.texture_patterns import PATTERNS
from linear_eval.datasets.textures import TexturesConfig, draw_images


@pytest.fixture(scope="module")
def splits() -> tuple[ImageSplit, ImageSplit]:
    config = TexturesConfig(seed=123)
    return config.open_train(), config.open_test()


def knn_percent(splits: tuple[ImageSplit, ImageSplit], features: list[Tensor]) -> float:
    """Accuracy of 20 nearest neighbours by cosine, weighted exp(similarity / 0.07)."""
    gallery, queries = (F.normalize(each, dim=1) for each in features)
    similarity, index = (queries @ gallery.T).topk(20)
    weights = ((similarity - similarity[:, :1]) / 0.07).exp()
    votes = torch.zeros(len(queries), 10)
    votes.scatter_add_(1, splits[0].labels[index], weights)
    return float((votes.argmax(1) == splits[1].labels).float().mean()) * 100


def test_the_splits_have_the_documented_form(splits: tuple[ImageSplit, ImageSplit]) -> None:
    for split, name, count in ((splits[0], "train", 4000), (splits[1], "test", 1000)):
        assert split.pixels is not None
        assert split.pixels.shape == (count, 3, 32, 32)
        assert split.pixels.dtype == torch.uint8
        assert split.ids[12] == f"textures/{name}/000012"
        assert torch.bincount(split.labels).tolist() == [count // 10] * 10
        assert torch.equal(split.read(12), split.pixels[12])
        assert split.class_names == tuple(PATTERNS)


def test_an_image_depends_on_seed_split_and_index_alone() -> None:
    labels = np.arange(600) % 10
    images = draw_images(1, "train", labels)
    for count in (1, 37, 260):
        assert np.array_equal(draw_images(1, "train", labels[:count]), images[:count])
    for seed, split in ((2, "train"), (1, "test")):
        other = draw_images(seed, split, labels)
        assert not (other == images).all((1, 2, 3)).any()


def test_no_image_is_drawn_twice(splits: tuple[ImageSplit, ImageSplit]) -> None:
    seen = {split.read(row).numpy().tobytes() for split in splits for row in range(len(split))}
    assert len(seen) == 5000


def test_seed_and_counts_change_the_fingerprint() -> None:
    configs = [
        TexturesConfig(train_images=20, test_images=10),
        TexturesConfig(seed=1, train_images=20, test_images=10),
        TexturesConfig(train_images=30, test_images=10),
    ]
    prints = {config.open_train().fingerprint for config in configs}
    assert len(prints | {configs[0].open_test().fingerprint}) == 4
    again = TexturesConfig(train_images=20, test_images=10).open_train()
    assert again.fingerprint == configs[0].open_train().fingerprint


def test_the_label_moves_neither_background_nor_mean_colour_of_the_disc() -> None:
    count = 64
    images = [draw_images(3, "train", np.full(count, label)) for label in range(10)]
    for other in images[1:]:
        # Most corners lie outside the disc, and there the images are the same.
        assert (other == images[6]).all(1)[:, ::31, ::31].mean() > 0.7
        means = [each.reshape(count, -1).astype(float).mean(1) for each in (other, images[6])]
        assert np.abs(means[0] - means[1]).max() < 0.5  # of 255: rounding, and the disc's rim


def test_neighbours_by_pixels_stay_below_the_limit_and_colours_are_at_chance(
    splits: tuple[ImageSplit, ImageSplit],
) -> None:
    pixels = [split.pixels.float() / 255 for split in splits if split.pixels is not None]
    raw = knn_percent(splits, [each.flatten(1) for each in pixels])
    centred = knn_percent(splits, [each.flatten(1) - 0.5 for each in pixels])
    assert 10 < raw <= 35
    assert 15 < centred <= 35
    corners = [each[:, :, ::31, ::31].flatten(1) - 0.5 for each in pixels]
    for colours in ([each.mean((2, 3)) - 0.5 for each in pixels], corners):
        assert 6.2 < knn_percent(splits, colours) < 13.8  # 10 +- 4 standard deviations


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("seed", -1), ("seed", 2**64), ("train_images", 9), ("test_images", 0)),
        *(("train_images", 10**30), ("test_images", 10**7)),
    ],
)
def test_a_setting_out_of_range_names_its_key(key: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"^{key}: must be"):
        TexturesConfig(**{key: value})  # type: ignore[arg-type]  # the keys have several types
