"""What the hold-out decides, from files as runs leave them."""

import json
from pathlib import Path

import pytest

from linear_eval.system.errors import InputError
from ssl_bf.study.holdout import chosen_factors, pilot_lines, pilot_runs, trial_runs
from ssl_bf.study.run_folder import StudyRun
from ssl_bf.study.study_file import StudyConfig, load_study


def finish(run: StudyRun, holdout: float | None) -> None:
    run.directory.mkdir(parents=True)
    (run.directory / "config.yaml").touch()
    (run.directory / "backbone.safetensors").touch()
    (run.directory / "status.json").write_text(json.dumps({"state": "finished"}))
    (run.directory / "metrics.jsonl").write_text(json.dumps({"monitor/knn_top1": holdout}))


def study(folder: Path, *overrides: str) -> StudyConfig:
    return load_study("quickstart", [f"directory={folder}", *overrides]).value


def test_the_factor_with_the_best_mean_is_chosen_and_a_failed_run_is_worth_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = trial_runs(study(tmp_path, "learning_rates.seeds=[8,9]"), ["none", "copy"])
    assert len(trials) == 2 * 2 * 3
    of_factor = {0.5: 60.0, 1.0: 70.0, 2.0: 70.0}
    for run in trials:
        if run.arm == "none":
            finish(run, of_factor[run.factor or 0] + run.seed)
        elif run.factor != 2.0 or run.seed == 8:  # one diverged
            finish(run, 50.0 if run.factor != 2.0 else 90.0)
    assert chosen_factors(trials, ["none", "copy"]) == {"none": 1.0, "copy": 1.0}
    said = capsys.readouterr().err
    assert "learning rate of copy: x 1, hold-out k-NN in percent by x 0.5: 50.0, x 1: 50.0" in said


def test_the_pilot_names_the_seeds_that_each_contrast_needs(tmp_path: Path) -> None:
    asked = study(tmp_path)
    values = {"none": (50, 51, 52), "batchformer": (55, 50, 57), "copy": (50.1, 51.0, 52.1)}
    runs = pilot_runs(asked)
    for run in runs:
        finish(run, values[run.arm][run.seed])
    first, _, *rows, last = pilot_lines(asked, runs)
    assert first.startswith("pilot: 3 seeds, k-NN on the hold-out")
    assert [row.split()[-1] for row in rows] == ["49", "2"]
    assert last.startswith("the study has 5 seeds; give it more, or wider margins")


def test_a_run_without_a_hold_out_says_what_to_set(tmp_path: Path) -> None:
    asked = study(tmp_path)
    runs = pilot_runs(asked)
    for run in runs:
        finish(run, None)
    with pytest.raises(InputError, match="set data.holdout=0.1 and run.monitor_every=10"):
        pilot_lines(asked, runs)
