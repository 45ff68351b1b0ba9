"""Paths, labels and splits from a CSV or TSV file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from linear_eval.datasets.splits import open_splits
from linear_eval.datasets.table import TableConfig
from linear_eval.system.errors import InputError

OneLine = Callable[[BaseException], str]
ROWS = [
    ("a/1.png", "cat", "train"),
    ("a/2 b.png", "dog, old", "train"),
    ("b/1.png", "cat", "test"),
    ("b/2.png", "dog, old", "val"),
]


def write(root: Path, rows: Any = ROWS, *, header: str = "path,label,split") -> TableConfig:
    for path, *_ in ROWS:
        (root / path).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 3)).save(root / path)
    quoted = [",".join(f'"{value}"' for value in row) for row in rows]
    (root / "list.csv").write_text("\r\n".join([header, *quoted]) + "\r\n", encoding="utf-8-sig")
    return TableConfig(root=str(root), table="list.csv", holdout=0)


def test_the_table_says_which_image_is_what(tmp_path: Path) -> None:
    config = write(tmp_path)
    train, test = config.open_train(), config.open_test()
    assert train.ids == ("a/1.png", "a/2 b.png")
    assert train.class_names == test.class_names == ("cat", "dog, old")
    assert train.labels.tolist() == [0, 1]
    assert (test.ids, test.labels.tolist()) == (("b/1.png",), [0])
    assert train.notes == ("list.csv: 1 images of other splits (val) left out",)
    assert train.read(0).shape == (3, 3, 4)
    open_splits(config)


def test_columns_splits_and_tabs_have_names_of_ones_own(tmp_path: Path) -> None:
    write(tmp_path)
    lines = ["x\tfile\tclass\tfold", *("\t".join(("?", *row)) for row in ROWS)]
    (tmp_path / "list.tsv").write_text("\n".join(lines))
    config = TableConfig(
        root=str(tmp_path), table="list.tsv", path="file", label="class", split="fold", test="val"
    )
    assert config.open_test().labels.tolist() == [1]


def test_without_labels_or_splits_it_is_for_pretraining(tmp_path: Path, one_line: OneLine) -> None:
    write(tmp_path, [row[:1] for row in ROWS], header="path")
    config = TableConfig(root=str(tmp_path), table="list.csv", label=None, split=None)
    train = config.open_train()
    assert (len(train), train.labels.tolist()) == (4, [-1] * 4)
    with pytest.raises(InputError, match="data.split: null, so the table is good for pretraining"):
        config.open_test()


def test_disjoint_classes_are_for_retrieval(tmp_path: Path) -> None:
    rows = [*ROWS[:2], ("b/1.png", "owl", "test"), ("b/2.png", "owl", "test")]
    write(tmp_path, rows)
    config = TableConfig(root=str(tmp_path), table="list.csv", classes="disjoint", holdout=0)
    assert config.open_test().class_names == ("owl",)
    assert not open_splits(config).shares_classes


@pytest.mark.parametrize(
    ("rows", "header", "said"),
    [
        (
            ROWS,
            "path,class,split",
            "lacks the column 'label' (its first line, at each comma: path | class | split)",
        ),
        (ROWS, "path;label;split", "lacks the column 'path' (its first line, at each comma: path;"),
        (ROWS, "path,label,label", "has twice the column 'label'"),
        ([*ROWS, ROWS[0]], None, "names 1 images twice (a/1.png)"),
        ([*ROWS, ("./a//1.png", "owl", "test")], None, "names 1 images twice (a/1.png)"),
        ([*ROWS, ("c.png", "cat", "train")], None, "lacks 1 of 3 images of list.csv (c.png)"),
        ([*ROWS, ("c.png", "", "train")], None, "line 6 has 3 values for 3 columns, or an empty"),
        ([*ROWS, ("c.png", "cat")], None, "line 6 has 2 values for 3 columns"),
        ([*ROWS, ('c"x".png', "cat", "train")], None, "line 6 is damaged"),
        (ROWS[2:], None, "no image is 'train' in column 'split' (it says test, val)"),
        ([], None, "lists no image"),
    ],
)
def test_what_is_wrong_is_one_line(
    rows: Any, header: str | None, said: str, tmp_path: Path, one_line: OneLine
) -> None:
    config = write(tmp_path, rows, header=header or "path,label,split")
    with pytest.raises(InputError) as caught:
        config.open_train()
    assert said in one_line(caught.value)


def test_a_class_of_test_alone_and_a_missing_table_are_one_line(
    tmp_path: Path, one_line: OneLine
) -> None:
    config = write(tmp_path, [*ROWS[:2], ("b/1.png", "owl", "test")])
    with pytest.raises(InputError, match="1 classes of test are not in train") as caught:
        config.open_test()
    one_line(caught.value)
    (tmp_path / "list.csv").unlink()
    with pytest.raises(InputError, match="cannot be read") as caught:
        config.open_train()
    one_line(caught.value)
