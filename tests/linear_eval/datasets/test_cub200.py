"""CUB-200-2011 in its published layout, as a small tree."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from linear_eval.datasets.cub200 import Cub200Config
from linear_eval.datasets.splits import open_splits
from linear_eval.system.errors import InputError

OneLine = Callable[[BaseException], str]


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3)).save(path)


def cub(root: Path) -> Path:
    names = ["001.Albatross", "002.Auklet", "003.Wren", "010.Jay"]
    lines = [(f"{name}/{name[4:]}_{k}.jpg", n) for n, name in enumerate(names, 1) for k in range(2)]
    for path, _ in lines:
        image(root / "images" / path)
    text = "".join(f"{n} {path}\n" for n, (path, _) in enumerate(lines, 1))
    (root / "images.txt").write_text(text)
    text = "".join(f"{n} {label}\n" for n, (_, label) in enumerate(lines, 1))
    (root / "image_class_labels.txt").write_text(text)
    (root / "classes.txt").write_text("".join(f"{n} {c}\n" for n, c in enumerate(names, 1)))
    return root


def test_train_and_test_have_other_classes_and_retrieval_takes_them(tmp_path: Path) -> None:
    splits = open_splits(Cub200Config(root=str(cub(tmp_path)), holdout=0))
    assert not splits.shares_classes
    assert not set(splits.train.class_names) & set(splits.test.class_names)
    for split in (splits.train, splits.test):
        assert split.labels.unique().tolist() == list(range(len(split.class_names)))
        assert split.read(0).shape == (3, 3, 4)


def test_cub_takes_the_first_half_of_the_classes_from_either_folder(tmp_path: Path) -> None:
    (tmp_path / "CUB_200_2011").mkdir()
    cub(tmp_path / "CUB_200_2011")
    for root in (tmp_path, tmp_path / "CUB_200_2011"):
        config = Cub200Config(root=str(root))
        assert config.open_train().class_names == ("001.Albatross", "002.Auklet")
        assert config.open_test().class_names == ("003.Wren", "010.Jay")
        assert config.open_test().ids[0] == "003.Wren/Wren_0.jpg"
        assert config.open_test().labels.tolist() == [0, 0, 1, 1]


def line_of(config: Any, one_line: OneLine) -> str:
    with pytest.raises(InputError) as caught:
        config.open_train()
    return one_line(caught.value)


def test_damaged_cub_is_one_line(tmp_path: Path, one_line: OneLine) -> None:
    config = Cub200Config(root=str(cub(tmp_path)))
    labels = tmp_path / "image_class_labels.txt"
    whole = labels.read_text()
    labels.write_text(whole.replace("8 4", "8 9"))
    assert "1 of unknown classes" in line_of(config, one_line)
    labels.write_text(whole.replace("8 4\n", ""))
    assert "8 images, 7 labels" in line_of(config, one_line)
    labels.write_text(whole + "8 4\n")
    assert "line 9 is damaged or repeated" in line_of(config, one_line)
    labels.unlink()
    assert "cannot be read" in line_of(config, one_line)
    labels.write_text(whole)
    (tmp_path / "images" / "001.Albatross" / "Albatross_0.jpg").unlink()
    assert "lacks 1 of 4 listed images" in line_of(config, one_line)
