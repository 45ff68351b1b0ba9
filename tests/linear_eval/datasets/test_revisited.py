"""Revisited Oxford and Paris: crops and judgements from a JSON file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from linear_eval.datasets.dataset import Judgement
from linear_eval.datasets.revisited import RevisitedConfig
from linear_eval.system.errors import InputError

OneLine = Callable[[BaseException], str]


def truth() -> dict[str, Any]:
    return {
        "imlist": ["a", "b", "c", "d"],
        "qimlist": ["p", "q"],
        "gnd": [
            {"bbx": [1.4, 0.0, 5.0, 3.6], "easy": [0], "hard": [1, 2], "junk": [3]},
            {"bbx": [0, 0, 100, 100], "easy": [], "hard": [3], "junk": []},
        ],
    }


def config(root: Path, said: object) -> RevisitedConfig:
    (root / "jpg").mkdir()
    for number, name in enumerate("abcdpq"):
        image = Image.new("RGB", (8, 6), (40 * number, 0, 0))
        image.putpixel((1, 0), (255, 255, 255))
        image.save(root / "jpg" / f"{name}.jpg", quality=100, subsampling=0)
    (root / "truth.json").write_text(said if isinstance(said, str) else json.dumps(said))
    return RevisitedConfig(root=str(root), ground_truth=str(root / "truth.json"))


def test_queries_are_cut_out_and_judged_by_gallery_ids(tmp_path: Path) -> None:
    data = config(tmp_path, truth())
    queries, task = data.open_test(), data.open_retrieval()
    assert queries.ids == ("p.jpg", "q.jpg")
    assert task.gallery.ids == data.open_train().ids == ("a.jpg", "b.jpg", "c.jpg", "d.jpg")
    assert task.judgements == {
        "p.jpg": Judgement(
            frozenset({"a.jpg"}), frozenset({"b.jpg", "c.jpg"}), frozenset({"d.jpg"})
        ),
        "q.jpg": Judgement(frozenset(), frozenset({"d.jpg"}), frozenset()),
    }
    assert not data.shares_classes
    cut = queries.read(0)
    assert cut.shape == (3, 4, 4)  # rounded as Pillow rounds: 1 to 5, 0 to 4
    assert int(cut[2, 0, 0]) > 200  # the white pixel is now at the corner
    assert queries.read(1).shape == (3, 6, 8)  # held inside the image
    assert queries.select(torch.tensor([1])).read(0).shape == (3, 6, 8)


def test_another_box_gives_another_fingerprint(tmp_path: Path) -> None:
    data = config(tmp_path, truth())
    before = data.open_test().fingerprint
    said = truth()
    said["gnd"][0]["bbx"][0] = 2.0
    (tmp_path / "truth.json").write_text(json.dumps(said))
    assert data.open_test().fingerprint != before


def test_a_box_beside_its_image_is_named(tmp_path: Path) -> None:
    said = truth()
    said["gnd"][0]["bbx"] = [20, 0, 30, 4]
    with pytest.raises(InputError, match=r"^p.jpg: has 8 x 6 pixels, expected some in its box"):
        config(tmp_path, said).open_test().read(0)


def changed(key: str, value: object) -> dict[str, Any]:
    said = truth()
    (said if key in said else said["gnd"][0])[key] = value
    return said


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("{", "cannot be read"),
        ("[]", "has no list 'imlist'"),
        (changed("gnd", None), "has no list 'gnd'"),
        (changed("imlist", [1]), "has no list 'imlist'"),
        (changed("imlist", ["a", "a"]), "names an image of 'imlist' twice"),
        (changed("qimlist", ["p"]), "not one entry of 'gnd' for each name"),
        (changed("bbx", [1, 2, 3]), "without four numbers as 'bbx'"),
        (changed("bbx", None), "without four numbers as 'bbx'"),
        (changed("easy", [4]), "whose 'easy' are no positions"),
        (changed("junk", None), "whose 'junk' are no positions"),
        (changed("hard", [0]), "lists an image twice for one query"),
        (changed("imlist", ["a", "b", "c", "z"]), "lacks 1 of 4 listed images"),
    ],
)
def test_a_ground_truth_that_cannot_be_used_is_described(
    tmp_path: Path, said: object, problem: str, one_line: OneLine
) -> None:
    data = config(tmp_path, said)
    with pytest.raises(InputError) as error:
        data.open_test()
        data.open_retrieval()
    assert problem in one_line(error.value)


def test_the_way_from_the_published_pickle_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"make it with python -c .*json.dumps"):
        config(tmp_path, "no json").open_test()
