"""Cars-196 in its published layout, as a small tree."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from linear_eval.datasets.cars196 import Cars196Config
from linear_eval.datasets.splits import open_splits
from linear_eval.system.errors import InputError

OneLine = Callable[[BaseException], str]


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3)).save(path)


def cars(root: Path) -> Path:
    savemat = pytest.importorskip("scipy.io", reason="Cars-196 needs scipy").savemat
    fields = [("relative_im_path", object), ("class", object), ("test", object)]
    rows = [(f"car_ims/{n:06d}.jpg", 1 + n % 4, n % 2) for n in range(8)]
    for path, _, _ in rows:
        image(root / path)
    names = np.array([["Acura A", "BMW B", "Fiat C", "Kia D"]], dtype=object)
    savemat(
        root / "cars_annos.mat",
        {"annotations": np.array([rows], dtype=fields), "class_names": names},
    )
    return root


def test_train_and_test_have_other_classes_and_retrieval_takes_them(tmp_path: Path) -> None:
    splits = open_splits(Cars196Config(root=str(cars(tmp_path)), holdout=0))
    assert not splits.shares_classes
    assert not set(splits.train.class_names) & set(splits.test.class_names)
    for split in (splits.train, splits.test):
        assert split.labels.unique().tolist() == list(range(len(split.class_names)))
        assert split.read(0).shape == (3, 3, 4)


def test_cars_takes_the_first_half_of_the_classes(tmp_path: Path) -> None:
    config = Cars196Config(root=str(cars(tmp_path)))
    assert config.open_train().class_names == ("Acura A", "BMW B")
    assert config.open_train().labels.tolist() == [0, 1, 0, 1]
    assert config.open_test().ids == tuple(f"car_ims/{n:06d}.jpg" for n in (2, 3, 6, 7))


def line_of(config: Any, one_line: OneLine) -> str:
    with pytest.raises(InputError) as caught:
        config.open_train()
    return one_line(caught.value)


def test_damaged_cars_is_one_line(tmp_path: Path, one_line: OneLine) -> None:
    config = Cars196Config(root=str(tmp_path))
    assert "cars_annos.mat: missing" in line_of(config, one_line)
    (tmp_path / "cars_annos.mat").write_bytes(b"no matlab file" * 20)
    assert "cannot be read" in line_of(config, one_line)
    cars(tmp_path)
    (tmp_path / "car_ims" / "000000.jpg").unlink()
    assert "lacks 1 of 4 listed images" in line_of(config, one_line)
