"""A study of several data sets as one: the mean by seed, or a refusal."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.pooled_studies import print_pooled

CONTRAST = {"arm": "b", "against": "a", "metric": "top1", "margin": 1.0, "stated_before": True}


def write(path: Path, *, runs: dict[str, list[float]], margin: float = 1.0) -> str:
    listed: list[dict[str, Any]] = [
        {"arm": arm, "seed": seed, "metrics": {"top1": value, "other": 0}}
        for arm, values in runs.items()
        for seed, value in enumerate(values)
    ]
    study = {"runs": listed, "metrics": ["top1"], "contrasts": [{**CONTRAST, "margin": margin}]}
    path.write_text(json.dumps(study))
    return str(path)


def test_a_seed_counts_by_its_mean_over_the_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write(tmp_path / "one", runs={"a": [10, 20, 30], "b": [11, 21, 34]})
    two = write(tmp_path / "two", runs={"a": [30, 40, 50], "b": [33, 43, 50]})
    print_pooled([one, two])
    first, second, contrast = capsys.readouterr().out.splitlines()
    assert first.split() == ["a", "top1", "30.0", "+-", "10.0"]
    assert second.split() == ["b", "top1", "32.0", "+-", "10.0"]
    assert contrast.startswith("b - a, top1: +2.0 points")


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    one = write(tmp_path / "one", runs={"a": [1, 2], "b": [1, 2]})
    with pytest.raises(SystemExit, match=r"not in every file: \[\('b', 1\)\]"):
        print_pooled([one, write(tmp_path / "two", runs={"a": [1, 2], "b": [1]})])
    with pytest.raises(SystemExit, match="margins differ"):
        print_pooled([one, write(tmp_path / "three", runs={"a": [1, 2], "b": [1, 2]}, margin=2.0)])
