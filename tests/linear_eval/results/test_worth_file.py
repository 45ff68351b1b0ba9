"""Run: pytest tests/linear_eval/results/test_worth_file.py."""

import json
from pathlib import Path

import pytest

from linear_eval.results.worth_file import read_worth
from linear_eval.system.errors import InputError

CONTESTANT = {"name": "pixels", "metrics": {"a": 1}, "label_budget": {"10": 30, "1": 12.5}}


def test_a_verdict_is_read(tmp_path: Path) -> None:
    found = {"verdict": "yes", "interval": [1, 2], "contestants": [CONTESTANT], "command": "go"}
    (tmp_path / "worth.json").write_text(json.dumps(found))
    worth = read_worth(tmp_path)
    assert (worth.verdict, worth.interval, worth.command) == ("yes", (1.0, 2.0), "go")
    assert worth.contestants[0].by_labels == {10: 30.0, 1: 12.5}
    assert worth.metric_names == ("a",)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"verdict": "yes"}, "has no 'contestants'"),
        ({"verdict": "yes", "contestants": [{"metrics": {}}]}, "has no 'name'"),
        ({"verdict": "\x1b[2J", "contestants": []}, "has control characters"),
        ({"verdict": "yes", "contestants": [], "interval": [1]}, "run the command again"),
    ],
)
def test_what_is_no_verdict_is_refused(content: object, says: str, tmp_path: Path) -> None:
    (tmp_path / "worth.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=says):
        read_worth(tmp_path)
