from linear_eval.evaluation.contestants import Contestant
from linear_eval.evaluation.protocol_table import protocol_lines
from linear_eval.evaluation.report import Row

METRICS = {
    "knn/k=5/top1": 1.0,
    "knn/k=20/top1": 71.25,
    "linear_probe/top1": 80.0,
    "linear_probe/top5": 99.0,
    "moco/knn/k=200/top1": 60.04,
    "moco/linear_probe/top1": 75.0,
    "dino/knn/k=20/top1": 71.3,
    "dino/knn/k=10/top1": 72.0,
}


def rows() -> list[Row]:
    first = Contestant(key="random", title="random", architecture="resnet18")
    second = Contestant(key="ours", title="a longer title", architecture="resnet18")
    return [Row(first, metrics=dict.fromkeys(METRICS, 10.0)), Row(second, metrics=METRICS)]


def test_our_own_protocol_alone_needs_no_second_table() -> None:
    assert protocol_lines(rows(), ("ours",)) == []


def test_every_protocol_has_a_line_per_headline_number() -> None:
    assert protocol_lines(rows(), ("moco", "ours", "dino")) == [
        "percent            random  a longer title",
        "moco k-NN (k=200)    10.0            60.0",
        "moco linear top-1    10.0            75.0",
        "ours k-NN (k=20)     10.0            71.2",
        "ours linear top-1    10.0            80.0",
        "dino k-NN (k=20)     10.0            71.3",
    ]
