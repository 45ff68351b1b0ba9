import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from linear_eval.backbones.backbone_file import file_sha256
from linear_eval.results.per_image import (
    PerImage,
    per_image_path,
    read_per_image,
    write_per_image,
)
from linear_eval.system.errors import InputError

IDS = ("cat/1.png", "cat/2.png", "dog/\udcff.png")


def _answers(shift: int = 0) -> PerImage:
    return PerImage(
        ids=IDS,
        labels=np.array([0, 0, 1]),
        class_names=("cat", "dog"),
        judged="mine, with\nodd / name",
        scores={
            "pixels": {"knn/k=20/top1": np.array([0.0, 1.0, 0.0])},
            "mine, with\nodd / name": {
                "knn/k=20/top1": np.array([1.0, 1.0, 0.0]),
                "retrieval/map": np.array([1 / 3, 0.1 + shift, math.nan]),
                "retrieval/recall@1": np.array([1.0, 0.0, math.nan]),
            },
        },
        predictions={
            "pixels": {"knn/k=20": np.array([1, 0, 0])},
            "mine, with\nodd / name": {"knn/k=20": np.array([0, 0, 0])},
        },
        by_class=frozenset({"retrieval/map"}),
    )


def test_what_is_written_is_read_back_to_the_bit(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    entry = write_per_image(results, _answers())
    assert entry["file"] == "results.per_image.safetensors"
    assert [path.name for path in tmp_path.iterdir()] == [entry["file"]]
    found, expected = read_per_image(results, entry), _answers()
    assert (found.ids, found.class_names) == (expected.ids, expected.class_names)
    assert (found.judged, found.by_class) == (expected.judged, expected.by_class)
    assert np.array_equal(found.labels, expected.labels)
    assert list(found.scores) == list(expected.scores)
    for key, scores in expected.scores.items():
        assert found.scores[key].keys() == scores.keys()
        for metric, values in scores.items():
            read = found.scores[key][metric]
            assert read.dtype == np.float64
            assert np.array_equal(read, values.astype(np.float64), equal_nan=True)
    for key, predictions in expected.predictions.items():
        assert all(
            np.array_equal(found.predictions[key][name], p) for name, p in predictions.items()
        )


def test_equal_answers_make_equal_bytes(tmp_path: Path) -> None:
    first = write_per_image(tmp_path / "a.json", _answers())
    second = write_per_image(tmp_path / "b.json", _answers())
    assert first["sha256"] == second["sha256"] == file_sha256(per_image_path(tmp_path / "b.json"))
    assert write_per_image(tmp_path / "b.json", _answers(1))["sha256"] != first["sha256"]


def test_results_without_an_entry_say_to_judge_again(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results\.json: names no file .*; judge again"):
        read_per_image(tmp_path / "results.json", None)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    entry = write_per_image(tmp_path / "results.json", _answers())
    (tmp_path / entry["file"]).unlink()
    with pytest.raises(InputError, match=r"results\.per_image\.safetensors: no such file"):
        read_per_image(tmp_path / "results.json", entry)


@pytest.mark.parametrize("damage", ["cut", "byte", "foreign", "empty"])
def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path, damage: str) -> None:
    results = tmp_path / "results.json"
    entry = write_per_image(results, _answers())
    path = tmp_path / entry["file"]
    data = path.read_bytes()
    if damage == "foreign":
        write_per_image(results, _answers(1))
    else:
        path.write_bytes(
            {"cut": data[:-1], "byte": data[:-1] + b"\x07", "empty": b""}.get(damage, data)
        )
    with pytest.raises(InputError, match="is not the file that results.json was written with"):
        read_per_image(results, entry)


def test_a_file_of_another_kind_is_refused_though_its_digest_is_right(tmp_path: Path) -> None:
    path = tmp_path / "results.per_image.safetensors"
    save_file({"labels": np.zeros(2)}, path)
    entry = {"file": path.name, "sha256": file_sha256(path)}
    with pytest.raises(InputError, match=r"format version None .* expected 1"):
        read_per_image(tmp_path / "results.json", entry)
    path.write_bytes(b"no tensors")
    entry = {"file": path.name, "sha256": file_sha256(path)}
    with pytest.raises(InputError, match="is no safetensors file"):
        read_per_image(tmp_path / "results.json", entry)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_per_image(tmp_path / "gone" / "results.json", _answers())
    assert not list(tmp_path.iterdir())
