"""What lies beside images is told in one line; what systems write is not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from linear_eval.datasets import image_formats
from linear_eval.datasets.image_files import folder_names, scan_images

MakeTree = Callable[..., Path]
SYSTEM = """@eaDir #recycle #snapshot @tmp @Recycle $RECYCLE.BIN $Recycle.Bin __MACOSX lost+found
    .thumbnails .AppleDouble .snapshot .Trash-1000 .@__thumb found.000
    .git .Spotlight-V100""".split()
SYSTEM += ["System Volume Information", "Network Trash Folder", "Temporary Items"]


@pytest.mark.parametrize("name", SYSTEM)
def test_a_folder_of_a_system_is_nowhere(name: str, make_tree: MakeTree) -> None:
    root = make_tree({"a": 1, name: 1, f"a/{name}": 2, f"a/deep/{name}/x": 1})
    scan = scan_images(root)
    assert scan.folders == folder_names(root) == ("a",)
    assert [image.path for image in scan.images] == ["a/a_0.png"]
    assert scan.unread.notes(root) == ()


@pytest.mark.parametrize("name", ["eaDir", "@EADIR", "recycle", "Lost+Found", "recycled", "tmp"])
def test_other_names_are_classes(name: str, make_tree: MakeTree) -> None:
    assert name in scan_images(make_tree({"a": 1, name: 1})).folders


def test_what_is_usual_beside_images_is_not_told(make_tree: MakeTree) -> None:
    root = make_tree({"n01440764/images": 1})
    names = [
        "Thumbs.db",
        "THUMBS.DB",
        "desktop.ini",
        ".DS_Store",
        "._a.jpg",
        "README.md",
        "LICENSE",
    ]
    for name in [*names, "n01440764_boxes.txt", "val_annotations.txt", ".trashed-17-a.jpg"]:
        (root / "n01440764" / name).write_bytes(b"x")
    scan = scan_images(root)
    assert len(scan.images) == 1 and scan.unread.notes(root) == ()


def test_all_else_is_counted_by_suffix_in_one_line(make_tree: MakeTree) -> None:
    root = make_tree({"a": 1, "b/deep": 1, ".cats": 2})
    for name in (
        "a/x.txt",
        "b/y.TXT",
        "b/deep/z.xmp",
        "a/jpg",
        "b/v.mp4",
        "a/.kept.JPG",
        "a/1. x y",
    ):
        (root / name).write_bytes(b"x")
    (root / "a" / "gone").symlink_to(root / "nothing")
    assert scan_images(root).unread.notes(root) == (
        f"{root}: 7 files are not read as images: 2 .txt, 2 without suffix, 1 .mp4, 1 .xmp,"
        " 1 hidden .jpg; hidden folders are not entered: .cats; links that lead nowhere: a/gone",
    )


def test_photographs_that_need_an_extra_name_it(
    make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_tree({"": 1})
    (root / "IMG_1.HEIC").write_bytes(b"x")
    monkeypatch.setattr(image_formats, "has_heif", lambda: False)
    image_formats.image_suffixes.cache_clear()
    note = scan_images(root).unread.notes(root)[0]
    image_formats.image_suffixes.cache_clear()
    assert "1 file is not read as an image: 1 .heic; " in note and "ssl-bf[photos]" in note
