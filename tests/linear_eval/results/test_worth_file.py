"""Run: pytest tests/linear_eval/results/test_worth_file.py."""

import json
from pathlib import Path

import pytest

from linear_eval.results.worth_file import read_worth
from linear_eval.system.errors import InputError

CONTESTANT = {"name": "pixels", "metrics": {"a": 1}, "label_budget": {"10": 30, "1": 12.5}}


def test_a_verdict_is_read(tmp_path: Path) -> None:
    difference = {"labels": None, "rival": "b", "points": 2, "interval": [1, 3], "clear": True}
    found: dict[str, object] = {
        "verdict": "yes",
        "interval": [1, 2],
        "contestants": [CONTESTANT],
        "command": "go",
    }
    found |= {"differences": [difference], "notes": ["why"], "said": {"a": ["b"], "c": []}}
    (tmp_path / "worth.json").write_text(json.dumps(found))
    worth = read_worth(tmp_path)
    assert (worth.verdict, worth.interval, worth.command) == ("yes", (1.0, 2.0), "go")
    assert worth.contestants[0].by_labels == {10: 30.0, 1: 12.5}
    assert worth.metric_names == ("a",)
    assert (worth.differences[0].labels, worth.differences[0].interval) == (None, (1.0, 3.0))
    assert (worth.notes, worth.said) == (("why",), {"a": ("b",)})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"verdict": "yes"}, "has no 'contestants'"),
        ({"verdict": "yes", "contestants": [{"metrics": {}}]}, "has no 'name'"),
        ({"verdict": "\x1b[2J", "contestants": []}, "has control characters"),
        ({"verdict": "yes", "contestants": [], "interval": [1]}, "run the command again"),
        ({"verdict": "yes", "contestants": [], "differences": [{}]}, "has no 'labels'"),
    ],
)
def test_what_is_no_verdict_is_refused(content: object, says: str, tmp_path: Path) -> None:
    (tmp_path / "worth.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=says):
        read_worth(tmp_path)
