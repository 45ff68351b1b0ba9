"""Tiny-ImageNet in its layouts, made up and real."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from linear_eval.datasets.tiny_imagenet import TinyImagenetConfig
from linear_eval.system.errors import InputError

MakeTree = Callable[..., Path]
OneLine = Callable[[BaseException], str]
REAL = Path(__file__).parents[3] / "../shared/data/tiny-imagenet-40.tar.xz"
TRAIN = {"train/n02/images": 2, "train/n01/images": 1}


def published(make_tree: MakeTree, lines: list[str]) -> Path:
    """The published layout: three val images in one folder, and their annotations."""
    root = make_tree({**TRAIN, "val/images": 3})
    (root / "val" / "val_annotations.txt").write_text(
        "".join(f"{line}\t0\t0\t62\t62\n" for line in lines)
    )
    return root


ANNOTATIONS = ["images_0.png\tn02", "images_2.png\tn02", "images_1.png\tn01"]


def test_the_published_layout_takes_labels_from_the_annotations(make_tree: MakeTree) -> None:
    config = TinyImagenetConfig(root=str(published(make_tree, ANNOTATIONS)))
    train, test = config.open_train(), config.open_test()
    assert train.class_names == test.class_names == ("n01", "n02")
    assert train.labels.tolist() == [0, 1, 1]
    assert train.ids[0] == "n01/images/images_0.png"
    assert test.ids == tuple(f"images/images_{i}.png" for i in range(3))
    assert test.labels.tolist() == [1, 0, 1]
    assert test.read(1)[:, 0, 0].tolist() == [1, 0, 0]


@pytest.mark.parametrize("inner", ["", "/images"])
def test_class_folders_serve_in_train_and_val(inner: str, make_tree: MakeTree) -> None:
    root = make_tree({f"{s}/{c}{inner}": 2 for s in ("train", "val") for c in ("n01", "n02")})
    (root / "val" / "val_annotations.txt").write_text("left over from the published layout")
    config = TinyImagenetConfig(root=str(root))
    train, test = config.open_train(), config.open_test()
    assert train.labels.tolist() == test.labels.tolist() == [0, 0, 1, 1]
    assert train.class_names == test.class_names == ("n01", "n02")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (ANNOTATIONS[:2], "1 images have no line in val_annotations.txt .images/images_1.png."),
        ([*ANNOTATIONS, "images_9.png\tn01"], "1 lines no image .images/images_9.png."),
        ([*ANNOTATIONS[:2], "images_1.png\tn07"], r"not in train .n07. and 1 of train are not"),
        ([line.replace("n01", "n02") for line in ANNOTATIONS], "1 of train are not in it .n01."),
        ([*ANNOTATIONS, ANNOTATIONS[0]], "line 4 is damaged or repeated"),
        ([], "3 images have no line"),
    ],
)
def test_annotations_that_do_not_fit_are_refused(
    lines: list[str], message: str, make_tree: MakeTree, one_line: OneLine
) -> None:
    config = TinyImagenetConfig(root=str(published(make_tree, lines)))
    with pytest.raises(InputError, match=message) as error:
        config.open_test()
    one_line(error.value)


@pytest.mark.parametrize("content", [None, "images_0.png n01\n", "\xff"])
def test_the_images_folder_without_usable_annotations_is_never_a_class(
    content: str | None, make_tree: MakeTree
) -> None:
    root = make_tree({**TRAIN, "val/images": 3})
    if content is not None:
        (root / "val" / "val_annotations.txt").write_text(content, encoding="latin-1")
    with pytest.raises(
        InputError, match=r"val_annotations\.txt: (cannot be read|line 1 is|line 1: byte 0xFF)"
    ):
        TinyImagenetConfig(root=str(root)).open_test()


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ({"val": 3}, "val: 3 images lie directly in it"),
        ({"val/n01": 1}, "val: lacks 1 class folder.s. .n02."),
        ({"val/n01": 1, "val/n02": 1, "val/n03": 1}, "val: holds 1 class folder.s. .n03."),
        ({}, "val: missing"),
    ],
)
def test_a_val_folder_without_the_classes_of_train_is_refused(
    folders: dict[str, int], message: str, make_tree: MakeTree
) -> None:
    root = make_tree({**TRAIN, **folders})
    with pytest.raises(InputError, match=message):
        TinyImagenetConfig(root=str(root)).open_test()


def test_a_root_one_level_too_deep_is_refused(make_tree: MakeTree) -> None:
    root = make_tree({"train/images": 2, "n01": 1})
    with pytest.raises(InputError, match="train: holds a folder 'images'"):
        TinyImagenetConfig(root=str(root)).open_train()
    with pytest.raises(InputError, match="train: missing"):
        TinyImagenetConfig(root=str(root / "n01")).open_train()


@pytest.mark.skipif(not REAL.exists(), reason=f"the real images are not at {REAL}")
def test_the_real_forty_classes_open_with_their_counts(tmp_path: Path) -> None:
    with tarfile.open(REAL) as archive:
        for member in archive:  # of train a tenth: 20,000 small files take long
            if member.isreg() and ("/val/" in member.name or member.name.endswith("0.JPEG")):
                archive.extract(member, tmp_path, filter="data")
    config = TinyImagenetConfig(root=str(tmp_path / "tiny-imagenet-40"))
    train, test = config.open_train(), config.open_test()
    assert train.class_names == test.class_names
    assert torch.bincount(train.labels).tolist() == [50] * 40
    assert torch.bincount(test.labels).tolist() == [50] * 40
    for row in range(0, 2000, 50):
        assert test.read(row).shape == (3, 64, 64)


def test_an_emptied_images_folder_is_of_no_account(make_tree: MakeTree) -> None:
    both = {f"{s}/{c}": 2 for s in ("train", "val") for c in ("n01", "n02")}
    root = make_tree({**both, "val/images": 0, "train/images": 0, "val/images/@eaDir": 1})
    config = TinyImagenetConfig(root=str(root))
    assert config.open_train().labels.tolist() == config.open_test().labels.tolist() == [0, 0, 1, 1]


def test_half_sorted_images_are_refused(make_tree: MakeTree) -> None:
    root = published(make_tree, ANNOTATIONS)
    (root / "val" / "n01").mkdir()
    config = TinyImagenetConfig(root=str(root))
    assert len(config.open_test()) == 3
    make_tree({"val/n01": 1})
    with pytest.raises(InputError, match="images lie in class folders .n01/n01_0.png. and in"):
        config.open_test()


@pytest.mark.parametrize("change", [lambda t: "\ufeff" + t, lambda t: t.replace("\n", " \r\n")])
def test_annotations_of_any_editor_are_read(
    change: Callable[[str], str], make_tree: MakeTree
) -> None:
    root = published(make_tree, ANNOTATIONS)
    path = root / "val" / "val_annotations.txt"
    path.write_bytes((change(path.read_text()) + "\r\n").encode())
    assert TinyImagenetConfig(root=str(root)).open_test().labels.tolist() == [1, 0, 1]
