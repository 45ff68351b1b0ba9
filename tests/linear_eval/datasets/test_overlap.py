from pathlib import Path

import torch
from PIL import Image

from linear_eval.datasets import ImageFolderConfig
from linear_eval.datasets.dataset import ImageSplit, MemoryReader
from linear_eval.datasets.overlap import overlap_note

SIDES = ("train", "test")


def in_memory(numbers: list[int]) -> ImageSplit:
    pixels = torch.tensor(numbers, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return ImageSplit(
        ids=tuple(map(str, range(len(numbers)))),
        labels=torch.zeros(len(numbers), dtype=torch.int64),
        class_names=("a",),
        read=MemoryReader(pixels),
        fingerprint="f",
        pixels=pixels,
    )


def test_few_shared_images_are_tolerated_and_more_are_counted() -> None:
    judged = in_memory(list(range(200)))
    assert overlap_note([in_memory([0, 1, 250])], judged, SIDES) is None
    note = overlap_note([in_memory([0]), in_memory([1, 2, 250])], judged, SIDES)
    assert note is not None
    assert "3 of 200 test images (1.5 %) are also in train" in note


def test_an_image_twice_in_the_judged_split_counts_twice() -> None:
    note = overlap_note([in_memory([7, 8])], in_memory([7, 7, 1]), SIDES)
    assert note is not None
    assert "2 of 3 test images" in note


def test_the_same_images_in_both_are_called_so() -> None:
    note = overlap_note([in_memory([3, 1]), in_memory([2])], in_memory([1, 2, 3]), SIDES)
    assert note == (
        "data: train and test hold the same images (3 of them), so the numbers say nothing about "
        "others"
    )


def test_files_are_compared_once_they_were_read(tmp_path: Path) -> None:
    for split, numbers in (("train", range(4)), ("test", range(2, 6))):
        for number in numbers:
            path = tmp_path / split / "a" / f"{split}_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (2, 2), (number, 0, 0)).save(path)
    data = ImageFolderConfig(root=str(tmp_path))
    train, test = data.open_train(), data.open_test()
    assert overlap_note([train], test, SIDES) is None
    for each in (train, test):
        for row in range(len(each)):
            each.read(row)
    note = overlap_note([train], test, SIDES)
    assert note is not None
    assert "2 of 4 test images (50.0 %)" in note


def test_files_that_cannot_be_read_are_not_the_same(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        (tmp_path / split / "a" / "gone.png").symlink_to(tmp_path / "nothing")
    data = ImageFolderConfig(root=str(tmp_path))
    train, test = data.open_train(), data.open_test()
    for each in (train, test):
        assert each.contents is not None
        each.contents.digests()
    assert overlap_note([train], test, SIDES) is None
