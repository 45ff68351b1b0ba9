import json
import math
from pathlib import Path

import pytest

from linear_eval.evaluation.contestants import Contestant
from linear_eval.evaluation.report import Row, format_report, versions, write_results


def _row(title: str, knn: float, *, is_file: bool = True) -> Row:
    contestant = Contestant(
        key=title, title=title, architecture="small_conv", sha256="0" * 64 if is_file else None
    )
    metrics = {
        "knn/k=1/top1": 50.0,
        "knn/k=20/top1": knn,
        "linear_probe/top1": 81.25,
        "linear_probe/top5": 99.0,
        "linear_probe/mean_per_class": 80.0,
        "retrieval/recall@1": 100.0,
        "retrieval/map": 33.333,
        "retrieval/map@r": 7.0,
    }
    return Row(contestant, metrics)


def test_the_table_shows_one_aligned_row_per_contestant() -> None:
    rows = [_row("raw pixels", 22.14, is_file=False), _row("pretrained with BatchFormer", 71.0)]
    report = format_report(rows, num_classes=10, notes=[])
    assert report.splitlines() == [
        "percent                      k-NN (k=20)  linear top-1  recall@1    mAP  mAP@R",
        "raw pixels                          22.1          81.2     100.0   33.3    7.0",
        "pretrained with BatchFormer         71.0          81.2     100.0   33.3    7.0",
    ]


def test_intervals_stand_below_the_judged_row() -> None:
    row = _row("a", 71.0)
    row.intervals.update({"knn/k=20/top1": (68.1, 73.6), "retrieval/map": (33.0, 33.6)})
    assert format_report([row], num_classes=10, notes=[]).splitlines() == [
        "percent                k-NN (k=20)  linear top-1  recall@1        mAP  mAP@R",
        "a                             71.0          81.2     100.0       33.3    7.0",
        "  95 %, test sampling    68.1-73.6             -         -  33.0-33.6      -",
    ]


def test_top5_has_a_column_where_there_are_more_than_ten_classes() -> None:
    header = format_report([_row("a", 1.0)], num_classes=40, notes=[]).splitlines()[0]
    assert "linear top-5" in header
    assert "linear top-5" not in format_report([_row("a", 1.0)], num_classes=10, notes=[])


def test_evaluators_that_did_not_run_have_no_column() -> None:
    row = _row("a", 1.0)
    row.metrics.pop("knn/k=20/top1")
    row.metrics.pop("knn/k=1/top1")
    header = format_report([row], num_classes=10, notes=[]).splitlines()[0]
    assert header.split() == ["percent", "linear", "top-1", "recall@1", "mAP", "mAP@R"]


@pytest.mark.parametrize(
    ("main", "said"),
    [
        (71.0, "'with' costs 1.2 points of k-NN (k=20) against 'without' here (one run each)"),
        (73.0, "'with' gains 0.8 points of k-NN (k=20) against 'without' here (one run each)"),
        (72.2, "'with' neither gains nor costs k-NN (k=20) against 'without' here (one run each)"),
    ],
)
def test_the_difference_to_another_file_is_said_plainly(main: float, said: str) -> None:
    rows = [_row("raw pixels", 20.0, is_file=False), _row("without", 72.2), _row("with", main)]
    assert format_report(rows, num_classes=10, notes=[]).splitlines()[-1] == said


def test_the_built_in_baselines_get_no_difference() -> None:
    rows = [_row("raw pixels", 20.0, is_file=False), _row("with", 70.0)]
    assert "gains" not in format_report(rows, num_classes=10, notes=[])


def test_each_note_is_one_line_below_the_table() -> None:
    report = format_report([_row("a", 1.0)], num_classes=10, notes=["first\nline", "second"])
    assert report.splitlines()[-2:] == ["note: first line", "note: second"]


def test_at_most_five_lines_follow_the_table_and_the_last_says_how_many_more_there_are() -> None:
    rows = [_row("without", 70.0), _row("with", 71.0)]
    notes = [f"note {number}" for number in range(4)]
    whole = format_report(rows, num_classes=10, notes=notes).splitlines()
    assert whole[-4:] == [f"note: {each}" for each in notes]
    notes.append("the least important")
    short = format_report(rows, num_classes=10, notes=notes).splitlines()
    assert len(short) == len(whole)
    assert short[:-1] == whole[:-1]
    assert short[-1] == "note: 2 more lines like these: add --verbose"
    verbose = format_report(rows, num_classes=10, notes=notes, verbose=True).splitlines()
    assert verbose == [*whole, "note: the least important"]


def test_a_title_cannot_break_the_table() -> None:
    assert (
        len(format_report([_row("a\nb\x1b[31m", 1.0)], num_classes=10, notes=[]).splitlines()) == 2
    )


def test_results_are_written_as_json_and_never_with_nan(tmp_path: Path) -> None:
    write_results(tmp_path / "results.json", {"metrics": {"a": 1.5}})
    assert json.loads((tmp_path / "results.json").read_text()) == {"metrics": {"a": 1.5}}
    with pytest.raises(ValueError, match="JSON"):
        write_results(tmp_path / "other.json", {"metrics": {"a": math.nan}})
    assert not (tmp_path / "other.json").exists()


def test_versions_name_what_computes() -> None:
    assert {"linear_eval", "python", "torch", "torchvision", "numpy"} <= versions().keys()
