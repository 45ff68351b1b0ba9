"""How far a run is, read from its files alone."""

import json
from pathlib import Path

import pytest

from linear_eval.system.atomic_file import file_sha256
from linear_eval.system.errors import InputError
from ssl_bf.study.run_folder import StudyRun
from ssl_bf.study.status import in_words, seconds_left, state_of


def a_run(
    folder: Path, seed: int = 0, *, made: int = 0, of: int = 10, seconds: float = 5
) -> StudyRun:
    run = StudyRun(study=folder, arm="none", seed=seed)
    if made:
        run.directory.mkdir(parents=True)
        (run.directory / "config.yaml").touch()
        state = "finished" if made == of else "running"
        status = {"state": state, "step": made, "total_steps": of}
        (run.directory / "status.json").write_text(json.dumps(status))
        line = {"step": made, "timing": {"seconds": seconds}}
        (run.directory / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    if made == of:
        (run.directory / "backbone.safetensors").write_bytes(b"weights")
    return run


def test_from_missing_to_judged(tmp_path: Path) -> None:
    assert a_run(tmp_path).stage() == "missing"
    assert a_run(tmp_path, 1, made=4).stage() == "begun"
    run = a_run(tmp_path, 2, made=10)
    assert run.stage() == "trained"
    results = {
        "metrics": {"knn/k=5/top1": 50.0},
        "protocol": "ours",
        "settings": {},
        "backbone": {"sha256": "another"},
        "data": {"fingerprint": "x"},
    }
    (run.directory / "results.json").write_text(json.dumps(results))
    assert run.stage() == "trained"  # those are of a backbone that is gone
    results["backbone"] = {"sha256": file_sha256(run.directory / "backbone.safetensors")}
    (run.directory / "results.json").write_text(json.dumps(results))
    assert run.stage() == "judged"
    assert run.metrics() == {"knn/k=5/top1": 50.0}


def test_seconds_are_those_of_all_sessions_and_a_cut_line_is_none(tmp_path: Path) -> None:
    run = a_run(tmp_path, made=4)
    lines = [
        {"timing": {"seconds": 3.0}, "feature_std/stream_0": 0.5},
        {"timing": {"seconds": 5.0}, "monitor/knn_top1": 40.0},
        {"timing": {"seconds": 2.0}, "feature_std/stream_0": 0.7},
        {"timing": {"seconds": 4.0}, "monitor/knn_top1": 42.0},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 9, "ti'
    (run.directory / "metrics.jsonl").write_text(text)
    assert run.seconds() == 9.0
    assert (run.holdout(), run.feature_std()) == (42.0, 0.7)


def test_a_damaged_state_says_what_to_do(tmp_path: Path) -> None:
    run = a_run(tmp_path, made=4)
    (run.directory / "status.json").write_text("{")
    with pytest.raises(InputError, match="status.json: is damaged .* delete the folder"):
        run.stage()


def test_how_long_it_takes_follows_from_the_steps_made(tmp_path: Path) -> None:
    runs = [a_run(tmp_path, 0, made=10, seconds=20), a_run(tmp_path, 1, made=5, seconds=10)]
    runs.append(a_run(tmp_path, 2))
    assert seconds_left(runs, jobs=1) == pytest.approx(5 * 2 + 10 * 2)
    assert seconds_left(runs, jobs=2) == pytest.approx(15)
    assert seconds_left(runs[2:], jobs=2) is None
    assert [state_of(run) for run in runs] == ["trained", "stopped", "missing"]
    assert [in_words(each) for each in (40, 700, 9000)] == ["40 s", "12 min", "2.5 h"]
