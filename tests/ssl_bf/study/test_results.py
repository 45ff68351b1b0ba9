"""What study.json says, from files as runs leave them."""

import json
from pathlib import Path

import pytest

from linear_eval.system.atomic_file import file_sha256
from linear_eval.system.errors import InputError
from ssl_bf.study.record import Record, continued, read_record
from ssl_bf.study.results import collect
from ssl_bf.study.run_folder import StudyRun, runs_of
from ssl_bf.study.status import status_lines
from ssl_bf.study.study_file import StudyConfig, load_study

KNN, PROBE = "knn/k=20/top1", "linear_probe/top1"
TWO_SEEDS = "seeds=[0,1]"


def judged(run: StudyRun, metrics: dict[str, float], *, feature_std: float = 0.9) -> None:
    run.directory.mkdir(parents=True)
    (run.directory / "config.yaml").touch()
    backbone = run.directory / "backbone.safetensors"
    backbone.write_text(run.name)
    status = {"state": "finished", "step": 10, "total_steps": 10}
    line = {"feature_std/stream_0": feature_std, "timing": {"seconds": 12.5}}
    results = {
        "metrics": metrics,
        "protocol": "ours",
        "settings": {},
        "backbone": {"sha256": file_sha256(backbone)},
        "data": {"fingerprint": "x"},
    }
    for name, content in (
        ("status.json", status),
        ("metrics.jsonl", line),
        ("results.json", results),
    ):
        (run.directory / name).write_text(json.dumps(content))


@pytest.fixture
def study(tmp_path: Path) -> StudyConfig:
    return load_study("quickstart", [f"directory={tmp_path / 'study'}", TWO_SEEDS]).value


def record_of(study: StudyConfig) -> Record:
    return continued(None, study, {arm.name: {"x": arm.name} for arm in study.arms}, {})


def all_runs(study: StudyConfig) -> list[StudyRun]:
    return runs_of(Path(study.directory), [arm.name for arm in study.arms], study.seeds)


def test_every_run_and_every_contrast_is_there(study: StudyConfig) -> None:
    record = record_of(study)
    Path(study.directory).mkdir()
    record.write(Path(study.directory))
    for run in all_runs(study):
        lead = {"batchformer": 2.0 + run.seed}.get(run.arm, 0.0)
        std = 0.1 if run.arm == "copy" and run.seed else 0.9
        judged(run, {KNN: 90 + lead, PROBE: 80.0, "knn/k=1/top1": 70.0}, feature_std=std)
    results = collect(study, record, {})
    found = json.loads(results.write().read_text())
    assert [(run["arm"], run["seed"], run["collapsed"]) for run in found["runs"]] == [
        ("none", 0, False),
        ("batchformer", 0, False),
        ("copy", 0, False),
        ("none", 1, False),
        ("batchformer", 1, False),
        ("copy", 1, True),
    ]
    assert found["runs"][0]["metrics"] == {KNN: 90.0, PROBE: 80.0, "knn/k=1/top1": 70.0}
    assert (found["runs"][0]["seconds"], found["runs"][0]["directory"]) == (
        12.5,
        "runs/none/seed-0",
    )
    assert [(each["name"], each["metric"]) for each in found["contrasts"]] == [
        ("batchformer - none", KNN),
        ("batchformer - none", PROBE),
        ("copy - none", KNN),
        ("copy - none", PROBE),
    ]
    assert found["contrasts"][0]["difference"] == 2.5
    assert all(each["stated_before"] for each in found["contrasts"])
    assert status_lines(study)[-1] == "6 judged; all trained"


def test_a_metric_that_was_not_made_leaves_its_contrasts_unanswered(study: StudyConfig) -> None:
    record = record_of(study)
    for run in all_runs(study):
        judged(run, {KNN: 90.0} if run.arm == "copy" else {KNN: 90.0, PROBE: 80.0})
    results = collect(study, record, {})
    assert [each.asked.metric for each in results.verdicts] == [KNN, KNN]
    assert results.unanswered == [
        f"{arm} - none in {PROBE}: no answer, the judge made no such number"
        for arm in ("batchformer", "copy")
    ]


def test_a_contrast_of_one_pair_is_unanswered(study: StudyConfig) -> None:
    record, runs = record_of(study), all_runs(study)
    failed = {run: "loss: is nan" for run in runs if run.arm == "copy" and run.seed}
    for run in runs:
        if run not in failed:
            judged(run, {KNN: 90.0, PROBE: 80.0})
    results = collect(study, record, failed)
    assert results.failed == [{"arm": "copy", "seed": 1, "reason": "loss: is nan"}]
    assert results.unanswered == [
        f"copy - none in {metric}: no answer, less than two pairs" for metric in (KNN, PROBE)
    ]


def test_without_runs_a_record_holds_nobody_and_with_one_it_does(study: StudyConfig) -> None:
    folder = Path(study.directory)
    folder.mkdir()
    record = record_of(study)
    record.write(folder)
    assert read_record(folder) == record
    arms = {arm.name: {"x": "another"} for arm in study.arms}
    assert continued(record, study, arms, {}).study["arms"] == arms
    judged(all_runs(study)[0], {KNN: 90.0})
    with pytest.raises(InputError, match='holds a study with arms.none.x="none", now "another"'):
        continued(record, study, arms, {})


def test_the_status_of_a_study_that_tries_learning_rates(tmp_path: Path) -> None:
    asked = load_study("quickstart", [f"directory={tmp_path}", "learning_rates.seeds=[9]"]).value
    judged(StudyRun(study=tmp_path, arm="none", seed=9, factor=2.0), {})
    (tmp_path / "record.json").write_text(
        json.dumps({"format": 1, "study": {}, "seeds": [], "stated": {}, "choices": {}})
    )
    assert "learning rates: 1 of 9 runs tried" in status_lines(asked)
