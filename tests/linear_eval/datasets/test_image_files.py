"""Which files count as images, and that each is found once."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from linear_eval.datasets.contents import NO_TIME
from linear_eval.datasets.image_files import (
    FoundImage,
    Scan,
    existing_folder,
    few,
    first_folder,
    folder_names,
    scan_images,
)
from linear_eval.system.errors import InputError

MakeTree = Callable[..., Path]


def paths(scan: Scan) -> list[str]:
    return [image.path for image in scan.images]


def test_images_are_found_at_any_depth_in_sorted_order_with_their_size(make_tree: MakeTree) -> None:
    root = make_tree({"b": 1, "a/deep/er": 2, "": 1})
    scan = scan_images(root)
    assert scan.folders == ("a", "b")
    assert paths(scan) == ["a/deep/er/er_0.png", "a/deep/er/er_1.png", "b/b_0.png", "root_0.png"]
    assert all(image.stamp[0] == (root / image.path).stat().st_size > 0 for image in scan.images)


def test_other_files_and_hidden_ones_are_skipped(make_tree: MakeTree) -> None:
    root = make_tree({"a": 1, ".ipynb_checkpoints": 2, "a/.hidden": 1})
    for name in ("a/.x.jpg", "a/notes.txt", "a/jpg", "a/x.JPEG", "a/y.Jpg", "a/x.jpg.part"):
        (root / name).write_bytes(b"x")
    (root / "a" / "folder.jpg").mkdir()
    os.mkfifo(root / "a" / "pipe.jpg")
    assert paths(scan_images(root)) == ["a/a_0.png", "a/x.JPEG", "a/y.Jpg"]
    assert scan_images(root).folders == ("a",)


def test_what_a_mac_leaves_in_a_zip_is_no_class(make_tree: MakeTree) -> None:
    root = make_tree({"a": 1, "__MACOSX/a": 1, "a/__MACOSX": 1, "__MACOSX_": 1})
    assert scan_images(root).folders == folder_names(root) == ("__MACOSX_", "a")
    assert paths(scan_images(root)) == ["__MACOSX_/__MACOSX__0.png", "a/a_0.png"]


def test_a_loop_of_links_adds_nothing(make_tree: MakeTree) -> None:
    root = make_tree({"cat": 2, "dog": 1})
    before = scan_images(root)
    (root.parent / "val").mkdir()
    (root / "up").symlink_to(root.parent)
    (root / "cat" / "again").symlink_to(root)
    (root / "cat" / "self").symlink_to(root / "cat")
    (root / "all").symlink_to(root)
    (root / "nowhere").symlink_to(root / "nowhere")
    after = scan_images(root)
    assert (after.folders, after.images) == (before.folders, before.images)
    assert after.unread.broken_links == ["nowhere"]
    assert folder_names(root) == before.folders == ("cat", "dog")


def test_two_links_to_one_folder_are_two_classes_and_a_note_says_so(make_tree: MakeTree) -> None:
    root = make_tree({"zebra": 2})
    (root / "alias").symlink_to(root / "zebra")
    scan = scan_images(root)
    assert scan.folders == folder_names(root) == ("alias", "zebra")
    assert paths(scan) == [f"{c}/zebra_{i}.png" for c in ("alias", "zebra") for i in (0, 1)]
    assert "read again under another name (links): " in scan.unread.notes(root)[0]


def test_links_to_folders_and_files_elsewhere_are_followed(make_tree: MakeTree) -> None:
    elsewhere = make_tree({"n1": 2}, root="elsewhere")
    root = make_tree({"own": 1})
    (root / "n1").symlink_to(elsewhere / "n1")
    (root / "own" / "linked.png").symlink_to(elsewhere / "n1" / "n1_0.png")
    assert paths(scan_images(root)) == [
        "n1/n1_0.png",
        "n1/n1_1.png",
        "own/linked.png",
        "own/own_0.png",
    ]


def test_a_dangling_link_is_kept_so_that_reading_it_reports_it(make_tree: MakeTree) -> None:
    root = make_tree({"a": 0})
    (root / "a" / "gone.jpg").symlink_to(root / "nothing.jpg")
    assert scan_images(root).images == (FoundImage("a/gone.jpg", (-1, NO_TIME, 0, 0)),)


def test_only_the_folders_asked_for_are_entered_and_loose_images_are_found(
    make_tree: MakeTree,
) -> None:
    scan = scan_images(make_tree({"a": 1, "b": 1, "": 1}), only=("b", "c"))
    assert scan.folders == ("b",)
    assert paths(scan) == ["b/b_0.png", "root_0.png"]


def test_names_with_spaces_line_breaks_and_broken_bytes_are_found(make_tree: MakeTree) -> None:
    root = make_tree({"a": 0})
    names = ["a b.png", "a\nb.png", os.fsdecode(b"bad\xff.png"), "\u732b.png"]
    for name in names:
        (root / "a" / name).write_bytes(b"x")
    assert paths(scan_images(root)) == sorted(f"a/{name}" for name in names)


def test_a_folder_that_cannot_be_listed_is_named(
    make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_tree({"locked": 1})
    scandir = os.scandir

    def refuse_locked(path: Path) -> object:  # permissions would not stop root
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse_locked)
    with pytest.raises(InputError, match="locked: cannot be listed .Permission denied."):
        scan_images(root)


@pytest.mark.parametrize("root", ["", "/no/such/folder", __file__])
def test_a_root_that_is_no_folder_is_named(root: str) -> None:
    with pytest.raises(InputError, match=f"^data.root: '{root}' is not a folder, expected"):
        existing_folder(root)


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "images").mkdir()
    assert existing_folder("~/images") == tmp_path / "images"


def test_the_first_folder_of_a_loose_image_is_empty() -> None:
    assert [first_folder(FoundImage(path, (1, 1, 1, 1))) for path in ("a/b/c.png", "c.png")] == [
        "a",
        "",
    ]


def test_few_names_stand_for_many() -> None:
    assert few(["d", "a", "c", "b"]) == "a, b, c, ..."
    assert few(["b\n", "a"]) == "a, b\\n"
