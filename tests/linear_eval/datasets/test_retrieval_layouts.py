"""CUB-200-2011, Cars-196 and SOP in their published layouts, as small trees."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from linear_eval.datasets.cars196 import Cars196Config
from linear_eval.datasets.cub200 import Cub200Config
from linear_eval.datasets.sop import SopConfig
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


MAKERS: dict[str, tuple[Callable[[Path], Path], Any]] = {
    "cub200": (cub, Cub200Config),
    "cars196": (cars, Cars196Config),
    "sop": (sop, SopConfig),
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_classes_of_train_and_test_are_disjoint_and_retrieval_takes_them(
    name: str, tmp_path: Path
) -> None:
    make, config = MAKERS[name]
    splits = open_splits(config(root=str(make(tmp_path)), holdout=0))
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


def test_cars_takes_the_first_half_of_the_classes(tmp_path: Path) -> None:
    config = Cars196Config(root=str(cars(tmp_path)))
    assert config.open_train().class_names == ("Acura A", "BMW B")
    assert config.open_train().labels.tolist() == [0, 1, 0, 1]
    assert config.open_test().ids == tuple(f"car_ims/{n:06d}.jpg" for n in (2, 3, 6, 7))


def test_sop_follows_its_lists(tmp_path: Path) -> None:
    config = SopConfig(root=str(sop(tmp_path)))
    assert config.open_train().class_names == ("1",)
    assert config.open_test().class_names == ("9", "10")
    assert config.open_test().labels.tolist() == [1, 0]


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


def test_damaged_cars_is_one_line(tmp_path: Path, one_line: OneLine) -> None:
    config = Cars196Config(root=str(tmp_path))
    assert "cars_annos.mat: missing" in line_of(config, one_line)
    (tmp_path / "cars_annos.mat").write_bytes(b"no matlab file" * 20)
    assert "cannot be read" in line_of(config, one_line)
    cars(tmp_path)
    (tmp_path / "car_ims" / "000000.jpg").unlink()
    assert "lacks 1 of 4 listed images" in line_of(config, one_line)


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
