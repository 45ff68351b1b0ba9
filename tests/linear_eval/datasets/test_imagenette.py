"""Imagenette: ten classes with readable names."""

from collections.abc import Callable
from pathlib import Path

import pytest

from linear_eval.datasets.imagenette import CLASSES, ImagenetteConfig
from linear_eval.system.errors import InputError

MakeTree = Callable[..., Path]


def test_both_splits_have_the_ten_classes_under_readable_names(make_tree: MakeTree) -> None:
    root = make_tree({f"{split}/{wnid}": 1 for split in ("train", "val") for wnid in CLASSES})
    config = ImagenetteConfig(root=str(root))
    train, test = config.open_train(), config.open_test()
    assert train.class_names == test.class_names
    assert train.labels.tolist() == test.labels.tolist() == list(range(10))
    assert train.ids[1].startswith("n02102040/")
    assert train.class_names[1] == "English springer"
    assert list(CLASSES) == sorted(CLASSES)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ({f"train/{wnid}": 1 for wnid in list(CLASSES)[1:]}, "lacks 1 class folder.s. .n01440764."),
        ({"train/n01440764": 1, "train/n02105641": 1}, "holds 1 class folder.s. .n02105641."),
        ({}, "train: missing"),
    ],
)
def test_other_classes_than_the_ten_are_refused(
    folders: dict[str, int], message: str, make_tree: MakeTree
) -> None:
    root = make_tree(folders)
    with pytest.raises(InputError, match=message):
        ImagenetteConfig(root=str(root)).open_train()
