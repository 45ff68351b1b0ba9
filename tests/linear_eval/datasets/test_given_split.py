"""What Python programs hand in becomes a split: images, labels, identity."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from linear_eval.datasets import TexturesConfig
from linear_eval.datasets.given_labels import with_common_classes
from linear_eval.datasets.given_split import given_split, split_on_demand
from linear_eval.system.errors import InputError

PIXELS = torch.randint(
    0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
LABELS = torch.tensor([0, 2, 1, 2, -1, 0])


class Counting(Dataset[Any]):
    """Images with labels that counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.asked += 1
        return PIXELS[index], int(LABELS[index])


def test_a_dataset_of_pairs_becomes_a_split() -> None:
    split = given_split(TensorDataset(PIXELS, LABELS))
    assert torch.equal(split.labels, LABELS)
    assert split.class_names == ("0", "1", "2")
    assert torch.equal(torch.stack([split.read(row) for row in range(6)]), PIXELS)
    assert split.ids == ("0", "1", "2", "3", "4", "5")


def test_images_without_labels_get_minus_one() -> None:
    for images in (PIXELS, PIXELS.float() / 255, list(PIXELS)):
        split = given_split(images)
        assert split.labels.tolist() == [-1] * 6
        assert split.class_names == ()
        assert torch.equal(split.read(5), PIXELS[5])


def test_the_fingerprint_tells_other_images_and_labels_and_nothing_else() -> None:
    def fingerprint(pixels: torch.Tensor, labels: torch.Tensor) -> str:
        return given_split(TensorDataset(pixels, labels)).fingerprint

    own = fingerprint(PIXELS, LABELS)
    assert own == fingerprint(PIXELS.clone(), LABELS.clone())
    changed = PIXELS.clone()
    changed[5, 2, 7, 7] ^= 1
    others = [
        fingerprint(changed, LABELS),
        fingerprint(PIXELS, LABELS.clamp(min=0)),
        fingerprint(PIXELS.flip(0), LABELS),
        fingerprint(PIXELS.reshape(6, 3, 4, 16), LABELS),
    ]
    assert len({own, *others}) == 5


def test_images_are_looked_at_once_or_not_at_all() -> None:
    dataset = Counting()
    split = given_split(dataset)
    assert dataset.asked == 6
    dataset.fingerprint = "mine, version 1"  # type: ignore[attr-defined]
    assert given_split(dataset).fingerprint != split.fingerprint
    assert dataset.asked == 12  # for the labels
    dataset.targets = LABELS.tolist()  # type: ignore[attr-defined]
    named = given_split(dataset)
    assert dataset.asked == 13
    assert torch.equal(named.labels, LABELS)
    assert given_split(dataset, fingerprint="version 2").fingerprint != named.fingerprint


def test_labels_are_noted_as_images_are_read() -> None:
    split = split_on_demand(Counting())
    assert split.labels.tolist() == [-1] * 6
    split.read(3)
    assert split.labels.tolist() == [-1, -1, -1, 2, -1, -1]


def test_names_of_classes_come_from_the_data_set() -> None:
    dataset = Counting()
    dataset.classes = ["cat", "dog", "owl"]  # type: ignore[attr-defined]
    assert given_split(dataset).class_names == ("cat", "dog", "owl")
    dataset.classes = ["cat", "dog"]  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="dataset: has the label 2 and 2 classes"):
        given_split(dataset)


def test_a_split_is_taken_as_it_is() -> None:
    split = TexturesConfig(train_images=20).open_train()
    assert given_split(split) is split_on_demand(split) is split
    with pytest.raises(InputError, match="fingerprint of its own"):
        given_split(split, fingerprint="mine")


def test_numbered_classes_end_together() -> None:
    few, many = given_split(list(zip(PIXELS, [0, 0, 1], strict=False))), given_split(Counting())
    assert [each.class_names for each in with_common_classes(few, many)] == [("0", "1", "2")] * 2
    named = TexturesConfig(train_images=20).open_train()
    assert with_common_classes(named, many) == (named, many)


class Streaming(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(PIXELS)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (Streaming(), "dataset: is a Streaming, expected a torch Dataset"),
        (3, "dataset: is a int"),
        ("photos", "dataset: is a str"),
        ([], "dataset: holds no images"),
        (PIXELS[0], "dataset: is a Tensor (3, 8, 8) of uint8"),
        ([(PIXELS[0], 0, 0)], "dataset[0]: is 3 values"),
        ([(PIXELS[0], 0.5)], "dataset[0]: the label is '0.5'"),
        ([(PIXELS[0], "cat")], "dataset[0]: the label is 'cat'"),
        ([(PIXELS[0], -2)], "dataset[0]: the label is '-2'"),
        ([PIXELS[0], PIXELS[0].long()], "dataset[1]: is a Tensor"),
    ],
)
def test_anything_else_is_refused_in_one_line(images: Any, says: str) -> None:
    with pytest.raises(InputError) as caught:
        given_split(images)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_targets_must_fit() -> None:
    dataset = Counting()
    dataset.targets = [0, 1]  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="targets are 2 labels for 6 images"):
        given_split(dataset)
    dataset.targets = [1] * 6  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="first image has the label 0 and targets says 1"):
        given_split(dataset, fingerprint="mine")


def test_an_empty_fingerprint_is_none() -> None:
    with pytest.raises(InputError, match="its fingerprint is ''"):
        given_split(PIXELS, fingerprint="")
