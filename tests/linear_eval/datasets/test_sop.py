"""Stanford Online Products in its published layout, as a small tree."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from linear_eval.datasets.sop import SopConfig
from linear_eval.datasets.splits import open_splits
from linear_eval.system.errors import InputError

OneLine = Callable[[BaseException], str]


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3)).save(path)


SOP_LINES = {
    "Ebay_train.txt": ["1 1 1 bicycle_final/1_0.JPG", "2 1 1 bicycle_final/1_1.JPG"],
    "Ebay_test.txt": ["3 10 2 cabinet_final/10_0.JPG", "4 9 2 cabinet_final/9_1.JPG"],
}


def sop(root: Path) -> Path:
    for name, lines in SOP_LINES.items():
        for line in lines:
            image(root / line.split()[3])
        (root / name).write_text("\n".join(["image_id class_id super_class_id path", *lines]))
    return root


def test_train_and_test_have_other_classes_and_retrieval_takes_them(tmp_path: Path) -> None:
    splits = open_splits(SopConfig(root=str(sop(tmp_path)), holdout=0))
    assert not splits.shares_classes
    assert not set(splits.train.class_names) & set(splits.test.class_names)
    for split in (splits.train, splits.test):
        assert split.labels.unique().tolist() == list(range(len(split.class_names)))
        assert split.read(0).shape == (3, 3, 4)


def test_advice_names_no_key_that_sop_lacks(tmp_path: Path, one_line: OneLine) -> None:
    root = sop(tmp_path)
    train = (root / "Ebay_train.txt").read_text()
    (root / "Ebay_test.txt").write_text(train)
    with pytest.raises(InputError, match="1 classes are in train and in test") as caught:
        open_splits(SopConfig(root=str(root)))
    assert "data.classes" not in one_line(caught.value)


def test_sop_follows_its_lists(tmp_path: Path) -> None:
    config = SopConfig(root=str(sop(tmp_path)))
    assert config.open_train().class_names == ("1",)
    assert config.open_test().class_names == ("9", "10")
    assert config.open_test().labels.tolist() == [1, 0]


def line_of(config: Any, one_line: OneLine) -> str:
    with pytest.raises(InputError) as caught:
        config.open_train()
    return one_line(caught.value)


def test_damaged_sop_is_one_line(tmp_path: Path, one_line: OneLine) -> None:
    config = SopConfig(root=str(sop(tmp_path)))
    file = tmp_path / "Ebay_train.txt"
    whole = file.read_text()
    for damaged, said in (
        (whole + "\n1 1 x a.jpg", "line 4 is damaged or repeated"),
        (whole + "\n3 1 1 bicycle_final/1_0.JPG", "line 4 is damaged or repeated"),
        ("id path\n", "has another first line"),
        (whole.split("\n")[0], "lists no image"),
        (whole + "\n5 1 1 gone.JPG", "lacks 1 of 3 listed images (gone.JPG)"),
    ):
        file.write_text(damaged)
        assert said in line_of(config, one_line)
