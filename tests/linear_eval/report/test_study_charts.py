"""Tests of linear_eval.report.study_charts: means over seeds, of runs that lie beside the study."""

import json
from pathlib import Path

import pytest
import yaml

from linear_eval.report.study_charts import study_curves
from linear_eval.results.study_file import read_study
from linear_eval.system.errors import InputError
from tests.linear_eval.report.test_page import page

ARMS = ("none", "<u>related")


def save_run(folder: Path, losses: list[float], related: float | None = None) -> None:
    folder.mkdir(parents=True)
    name = "none" if related is None else "batchformer"
    (folder / "config.yaml").write_text(yaml.safe_dump({"relation": {"name": name}, "seed": 0}))
    lines = [{"step": s, "epoch": s / 2, "loss": loss} for s, loss in enumerate(losses, start=1)]
    if related is not None:
        lines[0] |= {"feature_std/stream_0": 1.0, "feature_std/stream_1": related}
    lines.append({"step": len(losses), "epoch": len(losses) / 2, "monitor/knn_top1": 40.0})
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def save_study(folder: Path, directories: list[str | None]) -> Path:
    runs = [
        {"arm": arm, "seed": seed, "metrics": {"knn/k=20/top1": 50.0}, "directory": directory}
        for (arm, seed), directory in zip(
            [(arm, seed) for arm in ARMS for seed in (0, 1)], directories, strict=True
        )
    ]
    path = folder / "study.json"
    path.write_text(json.dumps({"runs": runs, "contrasts": []}))
    return path


@pytest.fixture
def study(tmp_path: Path) -> Path:
    places: list[str | None] = [f"runs/{number}" for number in range(4)]
    save_run(tmp_path / "runs/0", [5, 4, 3])
    save_run(tmp_path / "runs/1", [7, 5])  # shorter, as where runs have equal seconds
    save_run(tmp_path / "runs/2", [6, 5], related=0.2)
    save_run(tmp_path / "runs/3", [6, 3], related=0.4)
    return save_study(tmp_path, places)


def test_a_line_is_the_mean_of_the_steps_that_all_seeds_logged(study: Path) -> None:
    found = study_curves(read_study(study), ARMS)
    by_title = {chart.title: chart for chart in found.charts}
    lines = {
        (title, each.line.name): (each.line.points, each.line.colour)
        for title, chart in by_title.items()
        for each in chart.lines
    }
    assert lines["Loss", "none"] == ([(0.5, 6.0), (1.0, 4.5)], 0)
    assert lines["Loss", "<u>related"] == ([(0.5, 6.0), (1.0, 4.0)], 1)
    [[_, value]], colour = lines["feature_std", "<u>related, related stream"]
    assert value == pytest.approx(0.3)
    assert colour == 1
    # a number that one seed has not at a step is left out: its monitor was asked at step 3
    assert [name for title, name in lines if title == "k-NN monitor, %"] == ["<u>related"]
    assert found.has_related
    assert found.absent == 0


def test_the_command_for_one_run_names_one_that_is_there_and_is_quoted(tmp_path: Path) -> None:
    own = tmp_path / "a study"
    save_run(own / "runs/$(x)", [6, 5])
    path = save_study(own, [None, "runs/gone", "runs/$(x)", None])
    command = study_curves(read_study(path), ARMS).command
    assert command == "linear-eval report 'a study/runs/$(x)'"


def test_a_run_that_has_logged_nothing_is_not_there(study: Path) -> None:
    (study.parent / "runs/1/metrics.jsonl").write_text("")
    found = study_curves(read_study(study), ARMS)
    assert found.absent == 1
    loss = next(chart for chart in found.charts if chart.title == "Loss")
    assert len(loss.lines[0].line.points) == 3


def test_two_studies_on_a_page_are_told_apart(study: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    save_run(other / "runs/0", [5, 4])
    save_study(other, ["runs/0", None, None, None])
    parts = page(study, other, "--output", tmp_path / "a.html")
    assert "Train other: none" in parts.words
    assert f"Train {tmp_path.name}: none" in parts.words


@pytest.mark.parametrize(
    "line",
    [
        '{"step": 1, "loss": 1}',
        '{"step": 1, "epoch": 1e400, "loss": 2}',
        '{"step": 1, "epoch": null}',
    ],
)
def test_lines_without_an_epoch_draw_nothing(study: Path, line: str) -> None:
    for number in range(4):
        (study.parent / f"runs/{number}/metrics.jsonl").write_text(f"{line}\n")
    assert "Training" in page(study, "--output", study.parent / "a.html").words


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("metrics.jsonl", '{"step": 1' + "0" * 400 + '}\n{"step": 2}\n', "beyond 64 bits"),
        ("metrics.jsonl", '{"step": 1, "loss": 1' + "0" * 400 + "}\n", "beyond 64 bits"),
        ("config.yaml", "method: 5\n", "method is no mapping"),
    ],
)
def test_a_damaged_run_is_named(study: Path, file: str, content: str, says: str) -> None:
    (study.parent / "runs/2" / file).write_text(content)
    with pytest.raises(InputError, match=rf"runs/2/{file}: is damaged .*{says}"):
        study_curves(read_study(study), ARMS)


def test_runs_that_are_not_there_are_counted_and_an_arm_keeps_its_colour(tmp_path: Path) -> None:
    save_run(tmp_path / "runs/2", [6, 5])
    path = save_study(tmp_path, ["runs/0", None, "runs/2", "runs/3"])
    found = study_curves(read_study(path), ARMS)
    assert found.absent == 3
    assert {each.line.colour for chart in found.charts for each in chart.lines} == {1}
    assert study_curves(read_study(save_study(tmp_path, [None] * 4)), ARMS).charts == ()


@pytest.mark.parametrize(
    "outside", ["../elsewhere", "runs/../../elsewhere", "ABSOLUTE", "runs/link"]
)
def test_a_run_outside_the_folder_of_the_study_is_refused(tmp_path: Path, outside: str) -> None:
    own = tmp_path / "study"
    (own / "runs").mkdir(parents=True)
    save_run(tmp_path / "elsewhere", [6, 5])
    (own / "runs" / "link").symlink_to(tmp_path / "elsewhere")
    named = str(tmp_path / "elsewhere") if outside == "ABSOLUTE" else outside
    path = save_study(own, [named, None, None, None])
    with pytest.raises(InputError, match="lies outside the folder of the study"):
        study_curves(read_study(path), ARMS)


def test_the_page_shows_curves_and_what_differs_between_the_arms(study: Path) -> None:
    parts = page(study, "--output", study.parent / "a.html")
    assert "Training, mean over seeds" in parts.words
    assert "What differs between the runs" in parts.words
    assert "Train <u>related" in parts.words
    assert "u" not in parts.tags
