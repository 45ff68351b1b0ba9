from linear_eval.evaluation.contestants import Contestant
from linear_eval.evaluation.detail_table import detail_lines
from linear_eval.evaluation.report import Row


def row(title: str, metrics: dict[str, float]) -> Row:
    return Row(Contestant(key=title, title=title, architecture="resnet18"), metrics=metrics)


def test_few_labels_show_their_spread_and_classes_their_frequency() -> None:
    pixels = row("raw pixels", {"low_shot/10%/top1": 5.0, "knn/k=20/many": 7.0})
    judged = row(
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
    assert detail_lines([row("mine", {"knn/k=20/top1": 2.0, "retrieval/map": 3.0})]) == []
