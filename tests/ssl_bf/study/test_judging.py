"""A metric that the judge does not make is found before anything runs."""

import pytest

from linear_eval.system.errors import ConfigError
from ssl_bf.study.judging import Judge, open_judge
from ssl_bf.study.study_file import load_study


def judge(*overrides: str) -> Judge:
    metrics = next((text for text in overrides if text.startswith("judge.metrics=")), "")
    contrast = "contrasts=[{arm: copy, against: none, margin: 1}]"
    return open_judge(load_study("quickstart", [contrast, *overrides, metrics or "jobs=1"]).value)


@pytest.mark.parametrize(
    ("metric", "overrides"),
    [
        ("knn/k=20/top1", []),
        ("knn/k=20/few", []),
        ("knn/k=7/top1", ["judge.overrides=['knn.k=[7]']"]),
        ("retrieval/recall@10", []),
        ("low_shot/1%/top1", ["judge.evaluators=[low_shot]"]),
        ("moco/linear_probe/top1", ["judge.overrides=['protocols=[moco]']"]),
    ],
)
def test_metrics_that_the_judge_makes(metric: str, overrides: list[str]) -> None:
    assert judge(f"judge.metrics=[{metric}]", *overrides).metrics == (metric,)


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("knn/k=7/top1", "the judge makes no knn/k=7/top1. Did you mean 'knn/k=*/top1'?"),
        ("linear_probe/topp1", "Did you mean 'linear_probe/top1'?"),
        ("low_shot/1%/top1", "the judge makes no low_shot/1%/top1. Known"),
        ("moco/linear_probe/top1", "the judge makes no moco/linear_probe/top1"),
        ("retrieval/recall@11", "the judge makes no retrieval/recall@11"),
    ],
)
def test_metrics_that_it_does_not_make(metric: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        judge(f"judge.metrics=[{metric}]")
    assert str(refused.value).startswith("judge.metrics: ")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("judge.overrides=[backbone=x]", "judge.overrides: backbone is set by the study"),
        ("judge.overrides=[knn.kk=3]", "judge: knn.kk: no such key"),
        ("judge.config=cifar11", "judge: cifar11: no such config.*Did you mean 'cifar10'"),
        ("judge.evaluators=[kmn]", "judge: evaluators: .*Did you mean 'knn'"),
    ],
)
def test_a_wrong_judge_is_one_line(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        judge(override)


def test_the_data_of_the_base_are_those_of_the_judge() -> None:
    found = judge("data.train_images=50", "data.seed=3")
    assert found.config.data.train_images == 50  # type: ignore[union-attr]  # they are textures
    assert "seed" not in found.settings["data"]
