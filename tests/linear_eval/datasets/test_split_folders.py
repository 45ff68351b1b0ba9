"""Folders of splits under other names, and roots that are a level off."""

from collections.abc import Callable
from pathlib import Path

import pytest

from linear_eval.datasets.image_folder import ImageFolderConfig
from linear_eval.datasets.imagenet_subset import ImagenetSubsetConfig
from linear_eval.datasets.imagenette import ImagenetteConfig
from linear_eval.system.errors import InputError

MakeTree = Callable[..., Path]
OneLine = Callable[[BaseException], str]


@pytest.mark.parametrize("train", ["train", "Train", "training"])
@pytest.mark.parametrize("test", ["valid", "Validation", "Test", "VAL"])
def test_other_names_of_splits_are_taken_and_told(
    train: str, test: str, make_tree: MakeTree
) -> None:
    config = ImageFolderConfig(root=str(make_tree({f"{train}/a": 2, f"{test}/a": 1})))
    opened, judged = config.open_train(), config.open_test()
    assert (opened.ids, judged.ids) == (("a/a_0.png", "a/a_1.png"), ("a/a_0.png",))
    assert bool(opened.notes) == (train != "train")
    assert judged.notes[0].endswith(f"{test}: is taken for the test split")


def test_several_test_folders_are_asked_about(make_tree: MakeTree, one_line: OneLine) -> None:
    root = make_tree({"train/a": 1, "valid/a": 1, "Test/a": 2})
    with pytest.raises(InputError, match="set data.test_folder=valid or data.test_folder=Test"):
        ImageFolderConfig(root=str(root)).open_test()
    assert len(ImageFolderConfig(root=str(root), test_folder="Test").open_test()) == 2
    with pytest.raises(ValueError, match="^test_folder: must be auto"):
        ImageFolderConfig(root=str(root), test_folder="train")


def test_a_test_split_is_never_trained_on_in_silence(make_tree: MakeTree) -> None:
    with pytest.raises(InputError, match="has validation but no train"):
        ImageFolderConfig(root=str(make_tree({"validation/a": 1, "other": 1}))).open_train()
    root = make_tree({"cars/train/a": 1, "cars/Test/a": 1}, root="high")
    note = ImageFolderConfig(root=str(root)).open_train().notes[0]
    assert f"data.root={root}/cars would keep them apart" in note


def test_a_root_that_is_a_level_off_names_the_one_that_works(make_tree: MakeTree) -> None:
    inner = "ILSVRC/Data/CLS-LOC"
    root = make_tree({f"{inner}/train/n01440764": 1, f"{inner}/val/n01440764": 1})
    good = root / inner
    for wrong in (root, root / "ILSVRC", good / "train", good / "val"):
        for config in (ImagenetSubsetConfig, ImagenetteConfig, ImageFolderConfig):
            with pytest.raises(InputError, match=f"; set data.root={good}$"):
                config(root=str(wrong)).open_test()


def test_a_split_of_another_name_is_named_where_the_name_is_fixed(make_tree: MakeTree) -> None:
    root = make_tree({"train/n01440764": 1, "Validation/n01440764": 1})
    with pytest.raises(InputError, match="val: missing, .*; rename 'Validation' to val, or link"):
        ImagenetSubsetConfig(root=str(root)).open_test()


def test_unsorted_imagenet_says_how_to_sort_it(make_tree: MakeTree) -> None:
    root = make_tree({"train/n01440764": 1, "val": 0})
    (root / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"x")
    with pytest.raises(InputError, match=r"sort them into WNID folders .*valprep\.sh"):
        ImagenetSubsetConfig(root=str(root)).open_test()


def test_archives_are_to_be_extracted(make_tree: MakeTree, one_line: OneLine) -> None:
    root = make_tree({"train": 0, "val": 0})
    (root / "train" / "n01440764.tar").write_bytes(b"x")
    archive = root / "photos.ZIP"
    archive.write_bytes(b"x")
    with pytest.raises(InputError, match="is an archive, expected a folder; extract it") as error:
        ImageFolderConfig(root=str(archive)).open_train()
    one_line(error.value)
    for config in (ImageFolderConfig, ImagenetSubsetConfig):
        with pytest.raises(InputError, match=r"holds no .* .1 .tar., .*; extract the archives"):
            config(root=str(root)).open_train()
