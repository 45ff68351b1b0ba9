"""Folders of classes as labelled splits."""

from collections.abc import Callable
from pathlib import Path

import pytest

from linear_eval.datasets.class_folders import class_folder_split
from linear_eval.datasets.decode import BadImageError
from linear_eval.errors import InputError

MakeTree = Callable[..., Path]
OneLine = Callable[[BaseException], str]


def test_first_level_folders_are_the_classes_in_sorted_order(make_tree: MakeTree) -> None:
    root = make_tree({"dog/puppy": 1, "cat": 2, "a-b": 1, "a": 1})
    split = class_folder_split("test", root)
    assert split.class_names == ("a", "a-b", "cat", "dog")
    for name, label in zip(split.ids, split.labels.tolist(), strict=True):
        assert name.split("/")[0] == split.class_names[label]
    assert split.read(split.ids.index("cat/cat_1.png"))[:, 0, 0].tolist() == [1, 0, 0]
    assert split.read(0).shape == (3, 3, 4)


def test_given_class_names_fix_the_label_numbers(make_tree: MakeTree) -> None:
    root = make_tree({"b": 1, "c": 1})
    split = class_folder_split("test", root, class_names=("c", "a", "b"))
    assert dict(zip(split.ids, split.labels.tolist(), strict=True)) == {
        "b/b_0.png": 2,
        "c/c_0.png": 0,
    }


def test_the_fingerprint_changes_with_a_file_but_not_with_the_place(make_tree: MakeTree) -> None:
    first = class_folder_split("test", make_tree({"a": 2})).fingerprint
    copy = make_tree({"a": 2}, root="copy")
    assert class_folder_split("test", copy).fingerprint == first
    with (copy / "a" / "a_0.png").open("ab") as file:
        file.write(b"\0")
    assert class_folder_split("test", copy).fingerprint != first


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ({}, "holds no class folders"),
        ({"": 3}, "3 images lie directly in it"),
        ({"a": 1, "": 1}, "1 images lie directly in it .root_0.png."),
        ({"a": 1, "b": 0, "c": 0}, r"has no image in 2 class folder.s. .b, c."),
        ({"a": 1, "x": 1}, r"holds 1 class folder.s. .x., expected only classes of train"),
        ({"a": 1, "b": 1}, r"lacks 1 class folder.s. .c., expected 3 classes"),
    ],
)
def test_a_tree_that_is_not_what_was_expected_is_described(
    folders: dict[str, int], message: str, make_tree: MakeTree, one_line: OneLine
) -> None:
    root = make_tree(folders)
    with pytest.raises(InputError, match=f"root: {message}") as error:
        class_folder_split("test", root, class_names=("a", "b", "c"), complete=True)
    one_line(error.value)


def test_a_missing_folder_is_named(tmp_path: Path, one_line: OneLine) -> None:
    with pytest.raises(InputError, match="val: missing, expected a folder") as error:
        class_folder_split("test", tmp_path / "val")
    one_line(error.value)


def test_a_damaged_image_names_its_whole_path(make_tree: MakeTree) -> None:
    root = make_tree({"a": 1})
    (root / "a" / "a_0.png").write_bytes(b"text")
    with pytest.raises(BadImageError, match=f"^{root}/a/a_0.png: "):
        class_folder_split("test", root).read(0)
