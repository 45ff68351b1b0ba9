"""Train, query and gallery by a list."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from linear_eval.datasets.in_shop import InShopConfig
from linear_eval.system.errors import InputError

OneLine = Callable[[BaseException], str]
LINES = [
    "img/W/a/1.jpg id_1 train",
    "img/W/a/2.jpg id_1 train",
    "img/W/b/1.jpg id_2 gallery",
    "img/W/b/2.jpg id_2 query",
    "img/W/c/1.jpg id_3 gallery",
    "img/W/c/2.jpg id_3 query",
    "img/W/c/3.jpg id_3 query",
]
HEADER = "image_name                         item_id evaluation_status"


def make(root: Path, lines: list[str], *, folder: str = "Eval", images: str = "Img") -> Path:
    for line in lines:
        path = root / images / line.split()[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(path)
    (root / folder).mkdir(exist_ok=True)
    text = "\n".join([str(len(lines)), HEADER, *lines])
    (root / folder / "list_eval_partition.txt").write_text(text + "\n")
    return root


@pytest.mark.parametrize(("folder", "images"), [("Eval", "Img"), (".", ".")])
def test_the_list_says_which_image_is_what(tmp_path: Path, folder: str, images: str) -> None:
    config = InShopConfig(root=str(make(tmp_path, LINES, folder=folder, images=images)))
    train, query, gallery = config.open_train(), config.open_test(), config.open_retrieval().gallery
    assert train.ids == ("img/W/a/1.jpg", "img/W/a/2.jpg")
    assert train.class_names == ("id_1",)
    assert query.ids == ("img/W/b/2.jpg", "img/W/c/2.jpg", "img/W/c/3.jpg")
    assert gallery.ids == ("img/W/b/1.jpg", "img/W/c/1.jpg")
    assert query.class_names == gallery.class_names == ("id_2", "id_3")
    assert query.labels.tolist() == [0, 1, 1]
    assert gallery.labels.tolist() == [0, 1]
    assert query.read(2).shape == (3, 3, 4)
    assert not config.shares_classes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("id_2 query", "id_2 val"), "line 6 is damaged or repeated"),
        (lambda text: text.replace("b/2.jpg", "b/1.jpg"), "line 6 is damaged or repeated"),
        (lambda text: text.replace("id_2 query", "id_2"), "line 6 is damaged or repeated"),
        (lambda text: text.rsplit("\n", 2)[0], "lists 6 images, expected their number"),
        (lambda text: text.replace("item_id", "item"), "expected their number and"),
        (lambda text: "", "has fewer than two lines"),
        (lambda text: text.replace("a/2.jpg", "a/9.jpg"), "lacks 1 of 2 listed images"),
    ],
)
def test_a_list_that_cannot_be_used_is_described(
    tmp_path: Path, change: Callable[[str], str], said: str, one_line: OneLine
) -> None:
    root = make(tmp_path, LINES)
    path = root / "Eval" / "list_eval_partition.txt"
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError) as error:
        InShopConfig(root=str(root)).open_train()
    assert said in one_line(error.value)


def test_a_missing_list_is_named(tmp_path: Path, one_line: OneLine) -> None:
    with pytest.raises(InputError, match="list_eval_partition.txt: cannot be read") as error:
        InShopConfig(root=str(tmp_path)).open_test()
    one_line(error.value)
