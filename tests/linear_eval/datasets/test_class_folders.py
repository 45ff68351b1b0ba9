"""Folders of classes as labelled splits."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.datasets import ImageFolder

from linear_eval.datasets.class_folders import class_folder_split
from linear_eval.datasets.decode import AS_STORED, BadImageError
from linear_eval.system.errors import InputError

MakeTree = Callable[..., Path]
OneLine = Callable[[BaseException], str]


def test_first_level_folders_are_the_classes_in_sorted_order(make_tree: MakeTree) -> None:
    root = make_tree({"dog/puppy": 1, "cat": 2, "a-b": 1, "a": 1})
    split = class_folder_split("test", root, decoding=AS_STORED)
    assert split.class_names == ("a", "a-b", "cat", "dog")
    for name, label in zip(split.ids, split.labels.tolist(), strict=True):
        assert name.split("/")[0] == split.class_names[label]
    assert split.read(split.ids.index("cat/cat_1.png"))[:, 0, 0].tolist() == [1, 0, 0]
    assert split.read(0).shape == (3, 3, 4)


def test_given_class_names_fix_the_label_numbers(make_tree: MakeTree) -> None:
    root = make_tree({"b": 1, "c": 1})
    split = class_folder_split("test", root, class_names=("c", "a", "b"), decoding=AS_STORED)
    assert dict(zip(split.ids, split.labels.tolist(), strict=True)) == {
        "b/b_0.png": 2,
        "c/c_0.png": 0,
    }


def test_the_fingerprint_changes_with_a_file_but_not_with_the_place(make_tree: MakeTree) -> None:
    first = class_folder_split("test", make_tree({"a": 2}), decoding=AS_STORED).fingerprint
    copy = make_tree({"a": 2}, root="copy")
    assert class_folder_split("test", copy, decoding=AS_STORED).fingerprint == first
    with (copy / "a" / "a_0.png").open("ab") as file:
        file.write(b"\0")
    assert class_folder_split("test", copy, decoding=AS_STORED).fingerprint != first


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
        class_folder_split(
            "test", root, class_names=("a", "b", "c"), complete=True, decoding=AS_STORED
        )
    one_line(error.value)


def test_a_missing_folder_is_named(tmp_path: Path, one_line: OneLine) -> None:
    with pytest.raises(InputError, match="val: missing, expected a folder") as error:
        class_folder_split("test", tmp_path / "val", decoding=AS_STORED)
    one_line(error.value)


def test_a_damaged_image_names_its_whole_path(make_tree: MakeTree) -> None:
    root = make_tree({"a": 1})
    (root / "a" / "a_0.png").write_bytes(b"text")
    with pytest.raises(BadImageError, match=f"^{root}/a/a_0.png: "):
        class_folder_split("test", root, decoding=AS_STORED).read(0)


NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_the_forms_of_one_name_are_one_class(make_tree: MakeTree) -> None:
    mac = class_folder_split("test", make_tree({NFD: 2, "b": 1}, root="mac"), decoding=AS_STORED)
    linux = class_folder_split(
        "test",
        make_tree({NFC: 1, "b": 2}, root="linux"),
        class_names=mac.class_names,
        decoding=AS_STORED,
    )
    assert mac.class_names == linux.class_names == ("b", NFC)
    assert (mac.labels.tolist(), linux.labels.tolist()) == ([0, 1, 1], [0, 0, 1])
    assert mac.ids[1] == f"{NFD}/{NFD}_0.png"  # as on disk
    with pytest.raises(InputError, match=r"twice, as 'cafe\\u0301' and 'caf\\xe9'"):
        class_folder_split("test", make_tree({NFC: 1, NFD: 1}, root="both"), decoding=AS_STORED)


def test_a_class_in_other_letters_names_the_pair(make_tree: MakeTree, one_line: OneLine) -> None:
    root = make_tree({"cat": 1, "dog": 1})
    with pytest.raises(InputError, match="holds 'cat' where train has 'Cat'") as error:
        class_folder_split("test", root, class_names=("Cat", "dog"), decoding=AS_STORED)
    one_line(error.value)
    both = make_tree({"Cat": 1, "cat": 2}, root="both")
    assert class_folder_split("test", both, decoding=AS_STORED).labels.tolist() == [0, 1, 1]


def test_a_class_folder_that_is_a_link_to_nothing_is_an_error(make_tree: MakeTree) -> None:
    root = make_tree({"cat": 1})
    (root / "dog").symlink_to(root.parent / "not_mounted")
    with pytest.raises(InputError, match=r"has links to nothing in place of 1 .*dog"):
        class_folder_split("test", root, decoding=AS_STORED)


PLACES = st.sampled_from(["a", "b", "a/x", "b/y", "A", "c/x/y"])


@settings(max_examples=40, deadline=None)
@given(
    folders=st.dictionaries(PLACES, st.integers(1, 2), min_size=1),
    links=st.lists(st.tuples(st.sampled_from(["d", "e", "a/l", "c/l"]), PLACES), max_size=3),
)
def test_drawn_trees_are_read_as_torchvision_reads_them(
    folders: dict[str, int], links: list[tuple[str, str]]
) -> None:
    with TemporaryDirectory() as place:
        root = Path(place)
        for folder, count in folders.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                (root / folder / f"{number}.png").write_bytes(b"x")
        for link, target in links:
            # a link into its own class could lead back to itself, which torchvision does not end
            may_loop = link[0] == target[0] or (link[0], target[0]) == ("c", "a")
            free = not (root / link).exists() and (root / link).parent.is_dir()
            if free and (root / target).is_dir() and not may_loop:
                (root / link).symlink_to(root / target)
        theirs = ImageFolder(place)
        ours = class_folder_split("test", root, decoding=AS_STORED)
    assert ours.class_names == tuple(theirs.classes)
    expected = sorted((str(Path(path).relative_to(place)), label) for path, label in theirs.samples)
    assert list(zip(ours.ids, ours.labels.tolist(), strict=True)) == expected
