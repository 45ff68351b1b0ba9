"""Run: pytest tests/linear_eval/results/test_study_file.py."""

import json
from pathlib import Path
from typing import Any

import pytest

from linear_eval.results.study_file import read_study
from linear_eval.system.errors import InputError

RUN = {"arm": "none", "seed": 0, "metrics": {"a": 1, "b": None}, "seconds": None}
CONTRAST: dict[str, Any] = {
    "name": "x - none",
    "metric": "a",
    "difference": 0.5,
    "interval": None,
    "p_holm": None,
    "margin": None,
    "equivalent": None,
    "stated_before": True,
    "sentence": "one seed says nothing",
}


def test_what_is_not_known_is_none(tmp_path: Path) -> None:
    path = tmp_path / "study.json"
    path.write_text(json.dumps({"runs": [RUN], "contrasts": [CONTRAST], "more": 1}))
    study = read_study(tmp_path)
    assert study.path == path
    assert study.runs[0].metrics == {"a": 1.0}
    assert study.contrasts[0].interval is None
    assert study.contrasts[0].stated_before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"runs": []}, "has no 'contrasts'"),
        ({"runs": [{}], "contrasts": []}, "has no 'arm'"),
        ({"runs": [RUN], "contrasts": [CONTRAST | {"difference": "much"}]}, "study again"),
        ({"runs": [], "contrasts": [CONTRAST | {"interval": [1]}]}, "study again"),
        ({"runs": [], "contrasts": [CONTRAST | {"name": "\x1b[2J"}]}, "has control characters"),
        ([1], "study again"),
    ],
)
def test_what_is_no_study_is_refused(content: object, says: str, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=says):
        read_study(tmp_path)
