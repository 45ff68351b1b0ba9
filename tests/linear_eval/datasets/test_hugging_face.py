"""Arrow and parquet files as Hugging Face's `datasets` writes them."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from linear_eval.datasets.hugging_face import HuggingFaceConfig
from linear_eval.datasets.splits import open_splits
from linear_eval.system.errors import InputError

pyarrow = pytest.importorskip("pyarrow", reason="arrow and parquet files need the extra hf")
OneLine = Callable[[BaseException], str]


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (value, 0, 0)).save(file, "png")
    return file.getvalue()


def table(values: list[int], labels: list[Any], names: list[str] | None) -> Any:
    images = [{"bytes": png(value), "path": None} for value in values]
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    made = pyarrow.table({"image": pyarrow.array(images, kind), "label": pyarrow.array(labels)})
    features: dict[str, Any] = {"image": {"_type": "Image"}, "label": {"_type": "Value"}}
    if names is not None:
        features["label"] = {"names": names, "_type": "ClassLabel"}
    about = json.dumps({"info": {"features": features}})
    return made.replace_schema_metadata({"huggingface": about})


NUMBERS = ([1, 0, 1], [0, 1])


def write(root: Path, kind: str, names: list[str] | None, labels: Any = NUMBERS) -> None:
    for split, values, own in zip(("train", "test"), ([10, 20, 30], [40, 50]), labels, strict=True):
        rows = table(values, own, names)
        if kind == "parquet":
            (root / "data").mkdir(exist_ok=True)
            file = root / "data" / f"{split}-00000-of-00001.parquet"
            pyarrow.parquet.write_table(rows, file, row_group_size=2)
            continue
        (root / split).mkdir()
        file = root / split / "data-00000-of-00001.arrow"
        with pyarrow.ipc.new_stream(str(file), rows.schema) as stream:
            stream.write_table(rows, max_chunksize=2)


@pytest.fixture(params=["arrow", "parquet"])
def kind(request: pytest.FixtureRequest) -> str:
    import pyarrow.parquet

    assert pyarrow.parquet
    return str(request.param)


def test_both_splits_are_read_with_the_names_of_their_classes(kind: str, tmp_path: Path) -> None:
    write(tmp_path, kind, ["cat", "dog"])
    config = HuggingFaceConfig(root=str(tmp_path), holdout=0)
    train, test = config.open_train(), config.open_test()
    assert train.class_names == test.class_names == ("cat", "dog")
    assert (train.labels.tolist(), test.labels.tolist()) == ([1, 0, 1], [0, 1])
    assert [int(train.read(row)[0, 0, 0]) for row in (2, 0, 1)] == [30, 10, 20]
    assert int(test.read(1)[0, 0, 0]) == 50
    assert train.ids == ("train/00000000", "train/00000001", "train/00000002")
    open_splits(config)


def test_labels_without_names_are_numbered_as_train_has_them(kind: str, tmp_path: Path) -> None:
    write(tmp_path, kind, None, (["owl", "cat", "owl"], ["owl", "owl"]))
    config = HuggingFaceConfig(root=str(tmp_path))
    assert config.open_train().class_names == config.open_test().class_names == ("cat", "owl")
    assert config.open_test().labels.tolist() == [1, 1]
    unlabelled = HuggingFaceConfig(root=str(tmp_path), label=None)
    assert unlabelled.open_train().labels.tolist() == [-1] * 3


def test_what_is_wrong_is_one_line(kind: str, tmp_path: Path, one_line: OneLine) -> None:
    def said(**keys: Any) -> str:
        config = HuggingFaceConfig(root=str(tmp_path), **keys)
        with pytest.raises(InputError) as caught:
            config.open_test()
        return one_line(caught.value)

    assert "(which has no arrow or parquet files)" in said()
    write(tmp_path, kind, None, (["owl", "cat", "owl"], ["owl", "ant"]))
    assert "1 values that are no class of train (ant)" in said()
    assert "data.test: 'validation' is not in" in said(test="validation")
    assert "(which has test, train)" in said(test="validation")
    assert "data.image: 'img' is no column of" in said(image="img")
    assert "data.label: 'class' is no column of" in said(label="class")
    for file in [*tmp_path.rglob("test*.parquet"), *tmp_path.rglob("test/*.arrow")]:
        file.write_bytes(b"cut off")
    assert "cannot be read" in said()
