"""Tests of the evaluator `classifier`; end_to_end/test_trained_classifier tries the commands."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from linear_eval.classifiers.classifier_file import (
    CLASSIFIER_FILE,
    ClassifierInfo,
    TrainedClassifier,
    backbone_digest,
    load_classifier,
    save_classifier,
)
from linear_eval.classifiers.whole_network import Pretrained
from linear_eval.datasets.splits import open_splits
from linear_eval.datasets.textures import TexturesConfig
from linear_eval.evaluators.classifier import (
    ClassifierConfig,
    check_classifier,
    evaluate_classifier,
)
from linear_eval.evaluators.evaluator import Asked, Planned
from linear_eval.features.table import FeatureTable, FeatureTables
from linear_eval.system.errors import InputError

M, D, C = 50, 6, 10
SPLITS = open_splits(TexturesConfig(train_images=40, test_images=M))
NAMES = SPLITS.test.class_names


def network(seed: int = 0) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(3, D)


def layer(**changes: object) -> TrainedClassifier:
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(C, D, generator=generator), torch.randn(C, generator=generator)
    info = ClassifierInfo(NAMES, backbone_digest(network()))
    return TrainedClassifier(weight, bias, replace(info, **changes))  # type: ignore[arg-type]


def features() -> Tensor:
    return torch.randn(M, D, generator=torch.Generator().manual_seed(2))


def asked(backbone: nn.Module, file: Path | None) -> Asked[ClassifierConfig]:
    table = FeatureTable(features(), SPLITS.test.labels, SPLITS.test.ids)
    start = Pretrained(backbone, D, mean=(0.5,) * 3, std=(0.2,) * 3, file=file)
    return Asked(
        config=ClassifierConfig(), tables=FeatureTables(test=table), pretrained=lambda: start
    )


@pytest.mark.parametrize("unit", [False, True])
def test_numbers_are_those_of_a_loop_over_the_images(tmp_path: Path, unit: bool) -> None:
    saved = layer(unit_features=unit)
    save_classifier(tmp_path / CLASSIFIER_FILE, saved)
    found = evaluate_classifier(asked(network(), tmp_path / "backbone.safetensors"))
    first = five = 0
    by_class: dict[int, list[bool]] = {}
    for row, label in zip(features(), SPLITS.test.labels.tolist(), strict=True):
        row = row / row.norm() if unit else row
        scores = [float(saved.weight[c] @ row + saved.bias[c]) for c in range(C)]
        ranked = sorted(range(C), key=lambda c: -scores[c])
        first += ranked[0] == label
        five += label in ranked[:5]
        by_class.setdefault(label, []).append(ranked[0] == label)
    assert found.metrics["classifier/top1"] == pytest.approx(100 * first / M)
    assert found.metrics["classifier/top5"] == pytest.approx(100 * five / M)
    mean = sum(sum(each) / len(each) for each in by_class.values()) / len(by_class)
    assert found.metrics["classifier/mean_per_class"] == pytest.approx(100 * mean)
    assert found.predictions["classifier"].shape == (M,)


def test_a_backbone_without_its_own_classifier_has_a_note(tmp_path: Path) -> None:
    save_classifier(tmp_path / CLASSIFIER_FILE, layer())
    (tmp_path / "empty").mkdir()
    for backbone, file in (
        (network(), None),
        (network(), tmp_path / "empty" / "backbone.safetensors"),
        (network(1), tmp_path / "backbone.safetensors"),
    ):
        found = evaluate_classifier(asked(backbone, file))
        assert found.metrics == {}
        assert found.notes == {"classifier": "there is none beside this backbone"}


def test_a_feature_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    save_classifier(tmp_path / CLASSIFIER_FILE, layer())
    question = asked(network(), tmp_path / "backbone.safetensors")
    question.tables.test.features[3, 2] = float("nan")
    with pytest.raises(InputError, match="test features"):
        evaluate_classifier(question)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"class_names": (*NAMES[:-1], "moire")}, "unknown to it: .*; not in the data: moire"),
        ({"class_names": NAMES[::-1]}, "they have another order"),
        ({"backbone_sha256": "0" * 64}, "was trained with another backbone"),
    ],
)
def test_the_file_is_checked_before_anything_is_computed(
    tmp_path: Path, changes: dict[str, object], said: str | None
) -> None:
    save_classifier(tmp_path / CLASSIFIER_FILE, layer(**changes))
    planned = Planned(
        config=ClassifierConfig(),
        splits=SPLITS,
        backbone=network(),
        file=tmp_path / "backbone.safetensors",
    )
    if said is None:
        check_classifier(planned)
        return
    with pytest.raises(InputError, match=said) as error:
        check_classifier(planned)
    assert "\n" not in str(error.value)


def test_a_classifier_survives_its_file(tmp_path: Path) -> None:
    saved = layer(unit_features=True)
    save_classifier(tmp_path / CLASSIFIER_FILE, saved)
    read = load_classifier(tmp_path / CLASSIFIER_FILE)
    assert read.info == saved.info
    assert torch.equal(read.logits(features()), saved.logits(features()))


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / CLASSIFIER_FILE
    save_classifier(path, layer())
    whole = path.read_bytes()
    for place in range(8, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError):
            load_classifier(path)
