"""Folders of one's own images."""

from collections.abc import Callable
from pathlib import Path

import pytest

from linear_eval.datasets.image_folder import ImageFolderConfig
from linear_eval.system.errors import InputError

MakeTree = Callable[..., Path]
OneLine = Callable[[BaseException], str]


@pytest.mark.parametrize("test", ["val", "test"])
def test_train_and_either_test_folder_share_their_classes(test: str, make_tree: MakeTree) -> None:
    root = make_tree({"train/b": 2, "train/a": 1, f"{test}/b": 1})
    config = ImageFolderConfig(root=str(root))
    train, judged = config.open_train(), config.open_test()
    assert train.ids == ("a/a_0.png", "b/b_0.png", "b/b_1.png")
    assert train.labels.tolist() == [0, 1, 1]
    assert judged.class_names == train.class_names == ("a", "b")
    assert judged.labels.tolist() == [1]
    assert judged.ids == ("b/b_0.png",)


def test_of_two_test_folders_one_must_be_named(make_tree: MakeTree, one_line: OneLine) -> None:
    root = make_tree({"train/a": 1, "val/a": 2, "test/a": 3})
    with pytest.raises(InputError, match="both val and test are in it") as error:
        ImageFolderConfig(root=str(root)).open_test()
    assert "data.test_folder=val" in one_line(error.value)
    assert len(ImageFolderConfig(root=str(root), test_folder="val").open_test()) == 2
    assert len(ImageFolderConfig(root=str(root), test_folder="test").open_test()) == 3


def test_flat_images_are_unlabelled_train_images(make_tree: MakeTree) -> None:
    split = ImageFolderConfig(root=str(make_tree({"": 3}))).open_train()
    assert split.labels.tolist() == [-1, -1, -1]
    assert split.class_names == ()
    assert split.read(2).shape == (3, 3, 4)


def test_without_train_the_whole_root_is_train_labelled_by_its_first_folders(
    make_tree: MakeTree,
) -> None:
    root = make_tree({"": 1, "2019/june": 1, "2020": 1, "empty": 0})
    split = ImageFolderConfig(root=str(root)).open_train()
    assert split.class_names == ("2019", "2020")
    assert dict(zip(split.ids, split.labels.tolist(), strict=True)) == {
        "root_0.png": -1,
        "2019/june/june_0.png": 0,
        "2020/2020_0.png": 1,
    }


def test_flat_images_below_train_are_unlabelled(make_tree: MakeTree) -> None:
    split = ImageFolderConfig(root=str(make_tree({"train": 2, "train/a": 1}))).open_train()
    assert sorted(split.labels.tolist()) == [-1, -1, 0]


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ({}, "root: holds no images"),
        ({"a": 0}, "root: holds no images"),
        ({"train": 0}, "train: holds no images"),
        ({"train/a": 1, "train/b": 0}, "train: has no image in 1 class"),
        ({"val/a": 1}, "root: has val but no train"),
        ({"test": 1, "other": 2}, "root: has test but no train"),
    ],
)
def test_a_train_folder_that_cannot_be_used_is_described(
    folders: dict[str, int], message: str, make_tree: MakeTree, one_line: OneLine
) -> None:
    root = make_tree(folders)
    with pytest.raises(InputError, match=message) as error:
        ImageFolderConfig(root=str(root)).open_train()
    one_line(error.value)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ({"a": 1}, "train: missing"),
        ({"train/a": 1}, "neither val nor test is in it"),
        ({"train/a": 1, "val": 0}, "val: holds no class folders"),
        ({"train/a": 1, "val": 2}, "val: 2 images lie directly in it"),
        ({"train/a": 1, "val/a": 0}, "val: has no image in 1 class"),
        ({"train/a": 1, "val/b": 1}, "val: holds 1 class folder.s. .b."),
        ({"train": 2, "val/a": 1}, "train: 2 images lie outside its class folders"),
    ],
)
def test_a_test_folder_that_cannot_be_used_is_described(
    folders: dict[str, int], message: str, make_tree: MakeTree, one_line: OneLine
) -> None:
    root = make_tree(folders)
    with pytest.raises(InputError, match=message) as error:
        ImageFolderConfig(root=str(root)).open_test()
    one_line(error.value)


def test_a_root_that_is_no_folder_is_named() -> None:
    with pytest.raises(InputError, match="^data.root: '/no/such' is not a folder"):
        ImageFolderConfig(root="/no/such").open_train()


def test_classes_that_only_test_has_must_be_announced(
    make_tree: MakeTree, one_line: OneLine
) -> None:
    root = make_tree({"train/a": 1, "train/b": 1, "test/c": 2, "test/d": 1})
    with pytest.raises(InputError, match="test: holds 2 class folder.s. .c, d.") as error:
        ImageFolderConfig(root=str(root)).open_test()
    assert "data.classes=disjoint evaluators=[retrieval]" in one_line(error.value)
    config = ImageFolderConfig(root=str(root), classes="disjoint")
    assert config.open_train().class_names == ("a", "b")
    judged = config.open_test()
    assert judged.class_names == ("c", "d")
    assert judged.labels.tolist() == [0, 0, 1]
    assert not config.shares_classes
