from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from PIL import Image

from linear_eval.datasets import DatasetConfig, TexturesConfig
from linear_eval.datasets.dataset import ImageSplit, RetrievalTask
from linear_eval.datasets.image_folder import ImageFolderConfig
from linear_eval.datasets.splits import open_splits, tell_notes
from linear_eval.system.errors import InputError

TINY = TexturesConfig(train_images=60, test_images=20)


@dataclass(frozen=True, kw_only=True)
class _Changed(TexturesConfig):
    """Textures whose test split is damaged in one way."""

    damage: Literal["class", "order", "label", "empty"]

    def open_test(self) -> ImageSplit:
        test = super().open_test()
        names = test.class_names
        if self.damage == "class":
            return replace(test, class_names=("moire", *names[1:]))
        if self.damage == "order":
            return replace(test, class_names=names[::-1])
        if self.damage == "label":
            return replace(test, labels=torch.where(test.labels == 3, -1, test.labels))
        return test.select(torch.zeros(0, dtype=torch.int64))


def _message(data: DatasetConfig) -> str:
    with pytest.raises(InputError) as caught:
        open_splits(data)
    return str(caught.value)


def test_train_and_holdout_share_the_train_split_and_test_stays_whole() -> None:
    splits = open_splits(TINY)
    assert splits.holdout is not None
    assert not set(splits.train.ids) & set(splits.holdout.ids)
    assert {*splits.train.ids, *splits.holdout.ids} == set(TINY.open_train().ids)
    assert len(splits.holdout) == 10
    assert splits.gallery_size == 60
    assert splits.test.ids == TINY.open_test().ids


def test_max_images_cuts_train_before_the_holdout_and_never_test() -> None:
    splits = open_splits(replace(TINY, max_images=40, holdout=0.25))
    assert splits.holdout is not None
    assert (splits.gallery_size, len(splits.holdout), len(splits.test)) == (40, 10, 20)


def test_without_a_holdout_there_is_none() -> None:
    splits = open_splits(replace(TINY, holdout=0.0))
    assert splits.holdout is None
    assert splits.gallery_size == 60


def test_the_fingerprint_tells_other_images_apart() -> None:
    others = [
        TINY,
        replace(TINY, seed=1),
        replace(TINY, max_images=40),
        replace(TINY, test_images=30),
    ]
    prints = [open_splits(data).fingerprint for data in others]
    assert len(set(prints)) == len(others)
    assert open_splits(TINY).fingerprint == prints[0]


def test_unequal_classes_are_named_on_both_sides() -> None:
    message = _message(_Changed(train_images=60, test_images=20, damage="class"))
    assert "only in train: " in message
    assert "only in test: moire" in message


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("order", "number their classes differently"),
        ("label", "2 of 20 test images have no label"),
        ("empty", "the test split is empty"),
    ],
)
def test_a_damaged_test_split_is_refused(
    damage: Literal["order", "label", "empty"], said: str
) -> None:
    data = _Changed(train_images=60, test_images=20, damage=damage)
    assert said in _message(data)


@dataclass(frozen=True, kw_only=True)
class _OtherClasses(TexturesConfig):
    """Textures whose test split is said to have classes of its own."""

    shared: int

    @property
    def shares_classes(self) -> bool:
        return False

    def open_test(self) -> ImageSplit:
        test = super().open_test()
        names = (*test.class_names[: self.shared], *"abcdefghij"[self.shared :])
        return replace(test, class_names=names)

    def open_retrieval(self) -> RetrievalTask:
        return RetrievalTask(gallery=self.open_test())


def test_test_classes_of_their_own_are_allowed_where_they_are_announced() -> None:
    data = _OtherClasses(train_images=60, test_images=20, shared=0)
    splits = open_splits(data)
    assert splits.test.class_names == tuple("abcdefghij")
    assert not splits.shares_classes
    assert list(splits.parts) == ["train", "holdout", "test", "gallery"]


def test_a_class_on_both_sides_is_refused_where_none_is_announced() -> None:
    data = _OtherClasses(train_images=60, test_images=20, shared=2)
    assert _message(data).startswith("data: 2 classes are in train and in test (")


def test_the_gallery_is_part_of_the_fingerprint() -> None:
    splits = open_splits(_OtherClasses(train_images=60, test_images=20, shared=0))
    other = replace(splits.test, fingerprint="other")
    changed = replace(splits, retrieval=RetrievalTask(gallery=other))
    assert splits.fingerprint != changed.fingerprint


def test_classes_without_a_test_image_are_named() -> None:
    splits = open_splits(TINY)
    assert splits.absent_note() is None
    few = splits.test.select((splits.test.labels > 1).nonzero()[:, 0])
    names = sorted(splits.train.class_names[:2])
    said = replace(splits, test=few).absent_note()
    assert said == f"2 of 10 classes have no test image ({names[0]}, {names[1]})"
    assert replace(splits, test=few, data=_OtherClasses(shared=0)).absent_note() is None


def test_a_note_is_told_once_however_often_its_split_is_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.xmp").write_text("x")
    split = ImageFolderConfig(root=str(tmp_path)).open_train()
    tell_notes([split, split.select(split.labels + 1), split])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"note: {tmp_path}: 1 file is not read as an image: 1 .xmp\n"
