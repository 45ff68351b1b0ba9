"""No number is computed without a word on where it is found."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_file import save_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.classifiers.classifier_file import (
    CLASSIFIER_FILE,
    ClassifierInfo,
    TrainedClassifier,
    backbone_digest,
    save_classifier,
)
from linear_eval.cli import main
from linear_eval.datasets.dataset import Judgement
from linear_eval.datasets.textures import TexturesConfig
from linear_eval.evaluation.protocols import PROTOCOLS, metrics_of
from linear_eval.evaluation.tables import detail_metrics, protocol_columns
from linear_eval.evaluators import EVALUATORS
from linear_eval.evaluators.headline import matched
from linear_eval.evaluators.headlines import HEADLINES, columns_of
from linear_eval.evaluators.judged_retrieval import evaluate_judged_retrieval
from linear_eval.features.table import FeatureTable

EVERY = tuple(evaluator.name for evaluator in EVALUATORS)
TINY = """\
data: {name: textures, train_images: 80, test_images: 30}
knn: {k: [1, 3], other_temperatures: [0.5]}
linear_probe: {epochs: 2, learning_rates: [0.1]}
logistic_probe: {weight_decays: [0.1], max_iterations: 3}
low_shot: {draws: 2, fractions: [0.3], probe: {weight_decays: [0.1], max_iterations: 3}}
fine_tune:
  draws: 1
  fractions: []
  images_per_class: [2]
  learning_rates: [0.1]
  recipe: {epochs: 1}
retrieval: {recall_at: [1, 5]}
augmented_passes: 1
"""
FREQUENCY = ["data.long_tail=6", "frequency.many_above=8", "frequency.few_below=4"]


def shown(metrics: dict[str, float], protocols: tuple[str, ...], num_classes: int) -> set[str]:
    columns = columns_of(metrics_of("ours", metrics), num_classes)
    of_protocols = protocol_columns(metrics, protocols)
    return {*columns.values(), *of_protocols.values(), *detail_metrics(metrics)}


def unnamed(metrics: dict[str, float], protocols: tuple[str, ...] = ("ours",)) -> list[str]:
    """Metrics that no table shows, and that are not named as being in results.json only."""
    patterns = [pattern for headline in HEADLINES for pattern in headline.in_results_only]
    inside = {
        PROTOCOLS[name].metric_prefix + key
        for name in PROTOCOLS
        for key in metrics_of(name, metrics)
        if any(matched(pattern, key) for pattern in patterns)
    }
    return sorted(set(metrics) - shown(metrics, protocols, 10) - inside)


def write_backbone_and_classifier(place: Path) -> None:
    """Random ones, for the classes of textures."""
    backbone = build_backbone("small_conv")
    info = BackboneInfo("small_conv", 128, 32, (0.5,) * 3, (0.25,) * 3, {"title": "random"})
    save_backbone(place / "backbone.safetensors", backbone, info)
    fc = torch.nn.Linear(128, 10)
    names = TexturesConfig().open_test().class_names
    belongs = ClassifierInfo(names, backbone_digest(backbone))
    save_classifier(
        place / CLASSIFIER_FILE, TrainedClassifier(fc.weight.data, fc.bias.data, belongs)
    )


def judged(
    place: Path, capsys: pytest.CaptureFixture[str], *given: str
) -> tuple[dict[str, Any], str]:
    """Results of a run, and what it printed above its notes."""
    (place / "tiny.yaml").write_text(TINY)
    write_backbone_and_classifier(place)
    capsys.readouterr()
    command = ["run", str(place / "tiny.yaml"), f"backbone={place / 'backbone.safetensors'}"]
    command += [f"output={place / 'r.json'}", *given]
    assert main(command) == 0
    results: dict[str, Any] = json.loads((place / "r.json").read_text())
    return results, capsys.readouterr().out.split("note: ")[0]


@pytest.mark.parametrize("evaluator", EVERY)
def test_every_evaluator_alone_prints_a_number_and_hides_none(
    evaluator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, printed = judged(tmp_path, capsys, f"evaluators=[{evaluator}]")
    metrics = results["metrics"]
    assert {key.split("/")[0] for key in metrics} == {evaluator}
    assert unnamed(metrics) == []
    numbers = shown(metrics, ("ours",), 10)
    assert numbers
    assert all(f"{metrics[key]:.1f}" in printed for key in numbers)


def test_all_evaluators_together_hide_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"evaluators=[{', '.join(EVERY)}]", "protocols=[ours, solo]", *FREQUENCY, "knn.k=[20]"]
    given += ["data.train_images=160"]
    results, printed = judged(tmp_path, capsys, *given)
    metrics, protocols = results["metrics"], ("ours", "solo")
    assert unnamed(metrics, protocols) == []
    for key in ("knn/k=20/many", "solo/linear_probe/few", "logistic_probe/medium"):
        assert any(line.split()[0] == key for line in printed.splitlines()), key
    assert "logistic top-1" in printed
    assert all(f"{metrics[key]:.1f}" in printed for key in shown(metrics, protocols, 10))


def test_retrieval_with_a_ground_truth_hides_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    test, gallery = (
        FeatureTable(
            torch.randn(count, 4, generator=generator),
            torch.zeros(count, dtype=torch.int64),
            tuple(f"{name}{row}" for row in range(count)),
        )
        for name, count in (("q", 2), ("g", 12))
    )
    said = Judgement(easy=frozenset({"g1"}), hard=frozenset({"g2"}), junk=frozenset({"g3"}))
    found = evaluate_judged_retrieval(test, gallery, dict.fromkeys(test.ids, said)).metrics
    assert len(found) == 12
    assert unnamed(found) == []
    headings = [*columns_of(found, 10)]
    assert headings == ["mAP easy", "mAP medium", "mAP hard"]


def test_a_new_metric_is_found_unless_it_is_shown_or_named() -> None:
    metrics = dict.fromkeys(("logistic_probe/top1", "logistic_probe/mean_per_class"), 1.0)
    assert unnamed(metrics) == []
    new = {"logistic_probe/calibration": 1.0, "moco/knn/k=200/calibration": 1.0, "novel/top1": 1.0}
    assert unnamed(metrics | new) == sorted(new)


def test_a_column_that_says_little_is_left_out() -> None:
    metrics = ["linear_probe/top1", "linear_probe/top5"]
    assert [*columns_of(metrics, 10)] == ["linear top-1"]
    assert [*columns_of(metrics, 11)] == ["linear top-1", "linear top-5"]
