from linear_eval.evaluation.protocols import PROTOCOLS
from linear_eval.evaluators.knn import HEADLINE_K
from linear_eval.evaluators.neighbour_votes import KnnConfig


def test_the_headline_k_and_temperature_are_the_defaults_of_the_evaluator() -> None:
    assert HEADLINE_K in KnnConfig().k
    assert f"temperature {KnnConfig().temperature}" in PROTOCOLS["ours"].rules["knn"]
    assert f"k = {HEADLINE_K}" in PROTOCOLS["ours"].rules["knn"]


def test_our_own_metrics_have_no_prefix_and_every_evaluator_has_a_rule() -> None:
    assert PROTOCOLS["ours"].metric_prefix == ""
    assert {"knn", "linear_probe", "retrieval"} <= PROTOCOLS["ours"].rules.keys()
