"""ImageNet whole, by a list of classes, and by a list of images."""

from collections.abc import Callable
from pathlib import Path

import pytest

from linear_eval.datasets.imagenet_subset import (
    PACKAGED,
    ImagenetSubsetConfig,
    SubsetList,
    read_subset,
)
from linear_eval.system.errors import InputError

MakeTree = Callable[..., Path]
OneLine = Callable[[BaseException], str]
WNIDS = ("n00000001", "n00000002", "n00000003")
SHARED = Path(__file__).parents[3] / "../shared/data/subsets"


def write_list(tmp_path: Path, lines: str) -> str:
    path = tmp_path / "list.txt"
    path.write_text(lines)
    return str(path)


def imagenet(make_tree: MakeTree) -> Path:
    """Three classes of four train images (n00000001_0.JPEG ...) and one val image each."""
    splits = {f"train/{wnid}": 4 for wnid in WNIDS} | {f"val/{wnid}": 1 for wnid in WNIDS}
    root = make_tree(splits)
    for path in root.rglob("*.png"):
        path.rename(path.with_suffix(".JPEG"))
    return root


def test_all_takes_every_class(make_tree: MakeTree) -> None:
    config = ImagenetSubsetConfig(root=str(imagenet(make_tree)))
    assert config.subset == "all"
    train, test = config.open_train(), config.open_test()
    assert train.class_names == test.class_names == WNIDS
    assert train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert test.labels.tolist() == [0, 1, 2]


def test_a_class_list_cuts_train_and_val_and_numbers_the_sorted_wnids(
    make_tree: MakeTree, tmp_path: Path
) -> None:
    subset = write_list(tmp_path, "n00000003\n\n# a comment\n  n00000001  # first\n")
    config = ImagenetSubsetConfig(root=str(imagenet(make_tree)), subset=subset)
    train, test = config.open_train(), config.open_test()
    assert train.class_names == test.class_names == ("n00000001", "n00000003")
    assert train.labels.tolist() == [0] * 4 + [1] * 4
    assert test.ids == ("n00000001/n00000001_0.JPEG", "n00000003/n00000003_0.JPEG")


def test_an_image_list_cuts_train_and_keeps_all_classes_of_val(
    make_tree: MakeTree, tmp_path: Path
) -> None:
    subset = write_list(tmp_path, "n00000003_2.JPEG\nn00000001_1.JPEG\n")
    config = ImagenetSubsetConfig(root=str(imagenet(make_tree)), subset=subset)
    train, test = config.open_train(), config.open_test()
    assert train.ids == ("n00000001/n00000001_1.JPEG", "n00000003/n00000003_2.JPEG")
    assert train.labels.tolist() == [0, 2]
    assert train.class_names == test.class_names == WNIDS
    assert test.labels.tolist() == [0, 1, 2]
    assert train.read(1)[:, 0, 0].tolist() == [2, 0, 0]


def test_an_image_list_keeps_classes_of_val_that_train_has_no_folder_for(
    make_tree: MakeTree, tmp_path: Path
) -> None:
    root = imagenet(make_tree)
    for path in (root / "train" / WNIDS[1]).iterdir():
        path.unlink()
    (root / "train" / WNIDS[1]).rmdir()
    config = ImagenetSubsetConfig(root=str(root), subset=write_list(tmp_path, "n00000003_2.JPEG"))
    assert config.open_train().labels.tolist() == [2]
    assert config.open_test().class_names == config.open_train().class_names == WNIDS


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("n00000001\nn00000009\nn00000008\n", "train: lacks 2 of the 3 classes of data.subset="),
        ("n00000001_0.JPEG\nn00000001_9.JPEG\n", "train: lacks 1 of 2 images of data.subset="),
        ("n00000001\nn00000001_0.JPEG\n", "^data.subset: '.*' has lines of both kinds"),
        ("n00000001\nn00000001\n", "^data.subset: '.*' repeats 1 lines .n00000001."),
        ("cat\nn00000001\n", "^data.subset: '.*' has 1 lines that are neither .cat."),
        ("n00000001/n00000001_0.JPEG\n", "has 1 lines that are neither"),
        ("../n00000001\n", "has 1 lines that are neither"),
        ("# nothing\n", "^data.subset: '.*' is empty"),
        ("n0000000\u0661\n", "has 1 lines that are neither"),
    ],
)
def test_a_list_that_does_not_fit_is_described(
    lines: str, message: str, make_tree: MakeTree, tmp_path: Path, one_line: OneLine
) -> None:
    config = ImagenetSubsetConfig(root=str(imagenet(make_tree)), subset=write_list(tmp_path, lines))
    with pytest.raises(InputError, match=message) as error:
        config.open_train()
    one_line(error.value)


def test_missing_classes_are_named_and_counted(make_tree: MakeTree) -> None:
    config = ImagenetSubsetConfig(root=str(imagenet(make_tree)), subset="imagenet100_cmc")
    for split, open_split in (("train", config.open_train), ("val", config.open_test)):
        with pytest.raises(InputError, match=f"{split}: lacks 100 of the 100 classes") as error:
            open_split()
        assert "(n01558993, n01692333, n01729322, ...)" in str(error.value)


def test_an_unknown_list_names_the_packaged_ones(one_line: OneLine) -> None:
    with pytest.raises(InputError, match="^data.subset: 'imagenet-100': cannot be read") as error:
        read_subset("imagenet-100")
    assert all(name in one_line(error.value) for name in PACKAGED)


def test_val_must_have_class_folders(make_tree: MakeTree) -> None:
    root = imagenet(make_tree)
    for path in list((root / "val").rglob("*.JPEG")):
        path.rename(root / "val" / path.name)
        path.parent.rmdir()
    with pytest.raises(InputError, match="val: 3 images lie directly in it"):
        ImagenetSubsetConfig(root=str(root)).open_test()


def test_a_missing_train_folder_is_named(tmp_path: Path) -> None:
    for subset in ("all", "imagenet100_cmc", "imagenet_1percent_simclr"):
        config = ImagenetSubsetConfig(root=str(tmp_path), subset=subset)
        with pytest.raises(InputError, match="train: missing"):
            config.open_train()


@pytest.mark.parametrize(
    ("name", "classes", "images"),
    [
        ("imagenet100_cmc", 100, None),
        ("imagenet_1percent_simclr", None, 12_811),
        ("imagenet_10percent_simclr", None, 128_116),
    ],
)
def test_the_packaged_lists_have_the_published_length(
    name: str, classes: int | None, images: int | None
) -> None:
    listed = read_subset(name)
    assert (listed.classes and len(listed.classes)) == classes
    assert (listed.images and len(listed.images)) == images
    if listed.images is not None:
        assert len({image.partition("_")[0] for image in listed.images}) == 1000


def test_the_one_percent_split_is_part_of_the_ten_percent_split() -> None:
    one, ten = (read_subset(name).images for name in PACKAGED[1:])
    assert one is not None
    assert ten is not None
    assert set(one) < set(ten)


@pytest.mark.skipif(not SHARED.exists(), reason=f"the published lists are not at {SHARED}")
@pytest.mark.parametrize("name", PACKAGED)
def test_the_packaged_lists_equal_the_published_files(name: str) -> None:
    published = (SHARED / f"{name}.txt").read_text().split()
    listed = read_subset(name)
    assert sorted(published) == list(listed.classes or listed.images or ())


def test_all_needs_no_list() -> None:
    assert read_subset("all") == SubsetList(None, None)
