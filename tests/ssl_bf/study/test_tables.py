"""The tables of a study on a wide and on a narrow terminal."""

from pathlib import Path

import pytest

from ssl_bf.study.record import Choices, Record
from ssl_bf.study.results import Judged, StudyResults
from ssl_bf.study.run_folder import StudyRun
from ssl_bf.study.study_file import load_study
from ssl_bf.study.tables import study_lines
from ssl_bf.study.verdict import Asked, answer

KNN, PROBE = "knn/k=20/top1", "linear_probe/top1"
STEPS = {"none": 0.0, "batchformer": 1.0, "copy": 0.01}


@pytest.fixture
def results() -> StudyResults:
    study = load_study("quickstart", ["seeds=[0,1,2]"]).value
    runs = [
        Judged(
            run=StudyRun(study=Path("study"), arm=arm, seed=seed),
            metrics={KNN: 90 + step * (seed + 1), PROBE: 80 - step + seed},
            seconds=61.2,
            feature_std=0.9,
            collapsed=arm == "copy" and seed == 2,
            holdout=None,
        )
        for arm, step in STEPS.items()
        for seed in range(3)
    ]
    values = {arm: {r.run.seed: r.metrics for r in runs if r.run.arm == arm} for arm in STEPS}
    asked = [
        Asked(arm=arm, against="none", metric=metric, margin=1.0, stated_before=arm == "copy")
        for arm in ("batchformer", "copy")
        for metric in (KNN, PROBE)
    ]
    record = Record(study={}, seeds=(0, 1, 2), stated={}, choices=Choices(epochs={"none": 4}))
    verdicts = answer(asked, values, study.seeds)
    return StudyResults(
        study=study, record=record, runs=runs, failed=[], verdicts=verdicts, unanswered=[]
    )


def test_a_wide_terminal_has_one_table_per_contrast(results: StudyResults) -> None:
    lines = study_lines(results, width=200)
    assert lines[0].split() == "arm runs failed collapsed seconds a run epochs".split()
    assert next(line for line in lines if line.startswith("copy ")).split()[1:4] == ["3", "0", "1"]
    assert "batchformer - none, stated AFTER the first run, 3 pairs" in lines
    assert "copy - none, stated before the first run, 3 pairs" in lines
    [row] = [line for line in lines if line.startswith(KNN + " ") and "+2.00" in line]
    assert row.split()[1:6] == ["92.00", "1.00", "90.00", "0.00", "+2.00"]
    assert sum(line.startswith(f"{KNN}: ") for line in lines) == 2


@pytest.mark.parametrize("width", [80, 100])
def test_a_narrow_terminal_has_two(results: StudyResults, width: int) -> None:
    lines = study_lines(results, width=width)
    tables = [line for line in lines if ": " not in line]
    assert max(map(len, tables)) <= width
    assert sum("95 % interval" in line for line in tables) == 2
