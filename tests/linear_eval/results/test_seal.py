"""Tests of the digest of results.json, and of hostile text in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from linear_eval.results.own_results import write_results
from linear_eval.results.results_file import read_results
from linear_eval.results.seal import DIGEST
from linear_eval.system.errors import InputError


def results() -> dict[str, Any]:
    return {
        "metrics": {"knn/k=20/top1": 61.25, "linear_probe/top1": 1 / 3},
        "protocol": "ours",
        "settings": {"knn": {"temperature": 0.07}},
        "backbone": {"architecture": "small_conv", "sha256": "1" * 64},
        "data": {
            "name": "made up",
            "fingerprint": "f" * 64,
            "contents": {"train": "1" * 64, "test": "2" * 64},
        },
    }


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_results(tmp_path / "results.json", results())
    read = read_results(tmp_path)
    assert read.is_sealed
    assert read.metrics == results()["metrics"]


@pytest.mark.parametrize(
    ("was", "becomes"), [("61.25", "61.26"), ("small_conv", "resnet50"), ('"ours"', '"mine"')]
)
def test_a_number_or_name_changed_by_hand_is_refused(
    was: str, becomes: str, tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    write_results(path, results())
    text = path.read_text()
    assert was in text
    path.write_text(text.replace(was, becomes))
    with pytest.raises(InputError, match="was changed after it was written"):
        read_results(path)


def test_spaces_and_the_order_of_keys_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, results())
    found = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(found.items()))))
    assert read_results(path).is_sealed


def test_an_older_file_has_none_and_is_read(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results()))
    assert DIGEST not in json.loads(path.read_text())
    assert not read_results(path).is_sealed


@pytest.mark.parametrize(
    "place",
    [
        lambda found, text: found["metrics"].update({text: 1.0}),
        lambda found, text: found["backbone"].update(architecture=text),
        lambda found, text: found["data"].update(name=text),
        lambda found, text: found["settings"].update({text: 1}),
        lambda found, text: found.update(protocol=text),
    ],
    ids=["metric", "architecture", "data", "setting", "protocol"],
)
@pytest.mark.parametrize("text", ["\x1b[2Jgone", "two\nlines", "back\rspace"])
def test_names_that_move_the_cursor_are_refused_in_one_plain_line(
    place: Any, text: str, tmp_path: Path
) -> None:
    found = results()
    place(found, text)
    write_results(tmp_path / "results.json", found)
    with pytest.raises(InputError, match="control characters") as error:
        read_results(tmp_path)
    assert str(error.value).isprintable()
