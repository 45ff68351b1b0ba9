import pytest

from linear_eval.evaluation.contestants import Contestant
from linear_eval.evaluation.row import Row
from linear_eval.evaluation.tables import detail_lines, format_report, protocol_lines


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


OF_PROTOCOLS = {
    "knn/k=5/top1": 1.0,
    "knn/k=20/top1": 71.25,
    "linear_probe/top1": 80.0,
    "linear_probe/top5": 99.0,
    "moco/knn/k=200/top1": 60.04,
    "moco/linear_probe/top1": 75.0,
    "dino/knn/k=20/top1": 71.3,
    "dino/knn/k=10/top1": 72.0,
}


def two_rows() -> list[Row]:
    first = Contestant(key="random", title="random", architecture="resnet18")
    second = Contestant(key="ours", title="a longer title", architecture="resnet18")
    return [
        Row(first, metrics=dict.fromkeys(OF_PROTOCOLS, 10.0)),
        Row(second, metrics=OF_PROTOCOLS),
    ]


def test_our_own_protocol_alone_needs_no_second_table() -> None:
    assert protocol_lines(two_rows(), ("ours",)) == []


def test_every_protocol_has_a_line_per_headline_number() -> None:
    assert protocol_lines(two_rows(), ("moco", "ours", "dino")) == [
        "percent            random  a longer title",
        "moco k-NN (k=200)    10.0            60.0",
        "moco linear top-1    10.0            75.0",
        "ours k-NN (k=20)     10.0            71.2",
        "ours linear top-1    10.0            80.0",
        "dino k-NN (k=20)     10.0            71.3",
    ]


def titled(title: str, metrics: dict[str, float]) -> Row:
    return Row(Contestant(key=title, title=title, architecture="resnet18"), metrics=metrics)


def test_few_labels_show_their_spread_and_classes_their_frequency() -> None:
    pixels = titled("raw pixels", {"low_shot/10%/top1": 5.0, "knn/k=20/many": 7.0})
    judged = titled(
        "mine",
        {
            "knn/k=1/top1": 1.0,
            "knn/k=20/top1": 2.0,
            "knn/k=1/many": 30.0,
            "knn/k=20/many": 40.0,
            "linear_probe/top1": 60.0,
            "linear_probe/few": 3.0,
            "low_shot/10%/top1": 51.26,
            "low_shot/10%/top5": 90.0,
            "fine_tune/10%/top1": 60.0,
        },
    )
    judged.notes["low_shot/10%/spread"] = 1.04
    assert detail_lines([pixels, judged]) == [
        "percent             raw pixels         mine",
        "low_shot/10%/top1          5.0  51.3 +- 1.0",
        "fine_tune/10%/top1           -         60.0",
        "knn/k=20/many              7.0         40.0",
        "linear_probe/few             -          3.0",
    ]


def test_there_is_no_table_without_such_numbers() -> None:
    assert detail_lines([titled("mine", {"knn/k=20/top1": 2.0, "retrieval/map": 3.0})]) == []
