"""Tests of ssl_bf.methods.classifier: the loss, its gradients, and what fine-tuning asks for.

Float64 and tiny networks, as in test_method: 1e-9 tells rounding from anything else.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_file import load_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.classifiers.classifier_file import backbone_digest, load_classifier
from linear_eval.system.errors import InputError
from ssl_bf.keyed_random import StepContext
from ssl_bf.losses.class_logits import effective_number_weights
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.classes import Classes
from ssl_bf.methods.classifier import Classifier, ClassifierConfig
from ssl_bf.methods.method import Start
from ssl_bf.optimizers import AdamWConfig, LarsConfig, SgdConfig, build_optimizer
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.relations import RelationConfig
from ssl_bf.relations.batchformer import BatchFormerConfig
from ssl_bf.relations.batchformer_v2 import BatchFormerV2Config
from ssl_bf.relations.controls import CopyConfig, SelfOnlyConfig
from ssl_bf.relations.no_relation import NoRelationConfig
from ssl_bf.schedules import Elapsed

N, WIDTH = 8, 8
COUNTS = (500, 40, 5)
CLASSES = Classes(("cat", "dog", "owl"), COUNTS)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])
CONTEXT = StepContext(seed=1)


def backbone() -> nn.Sequential:
    with initial_values(0, "backbone"):
        linear = nn.Linear(12, WIDTH, bias=False)
        return nn.Sequential(nn.Flatten(), linear, nn.BatchNorm1d(WIDTH), nn.ReLU())


def build(relation: RelationConfig | None = None, **keys: Any) -> Classifier:
    start = Start(backbone(), WIDTH, relation or NoRelationConfig(), seed=3, classes=CLASSES)
    return ClassifierConfig(**keys).build(start).double()


def batchformer(**keys: Any) -> BatchFormerConfig:
    return BatchFormerConfig(
        **{"heads": 2, "context": 4, "dropout": 0.0, "insert_at": "backbone", **keys}
    )


def view(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(N, 3, 2, 2, generator=generator, dtype=torch.float64)


def batch(images: Tensor | None = None, labels: Tensor = LABELS) -> Batch:
    return Batch((view() if images is None else images,), torch.arange(N), labels)


def gradients(method: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in method.named_parameters() if p.grad is not None}


def snapshot(method: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in method.state_dict().items()}


def step(method: Classifier, seed: int = 0, *, elapsed: float = 0.5) -> Tensor:
    """One update; `elapsed` is the share of the run that is done before it."""
    optimizer = build_optimizer(SgdConfig(weight_decay=0.1), method.parameter_groups())
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * group["learning_rate_scale"]
    optimizer.zero_grad()
    loss: Tensor = method(batch(view(seed)), StepContext(seed=1, elapsed=elapsed))
    torch.autograd.backward(loss)
    optimizer.step()
    method.after_step(Elapsed(elapsed + 0.01, 1))
    return loss.detach()


def test_without_relation_it_is_cross_entropy_of_one_linear_layer() -> None:
    method = build()
    scores = functional.linear(method.backbone(view()), method.fc.weight, method.fc.bias)
    torch.testing.assert_close(method(batch(), CONTEXT), functional.cross_entropy(scores, LABELS))


@pytest.mark.parametrize("keys", [{}, {"prior": 1.0}, {"margin": 0.5}, {"label_smoothing": 0.2}])
def test_a_relation_that_copies_is_no_relation(keys: dict[str, Any]) -> None:
    plain, copied = build(**keys), build(CopyConfig(insert_at="backbone"), **keys)
    losses = [method(batch(), CONTEXT) for method in (plain, copied)]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-12, atol=1e-12)
    torch.autograd.backward(losses)
    torch.testing.assert_close(gradients(copied), gradients(plain), rtol=1e-9, atol=1e-12)


PAIRS: list[Any] = ["plain_keys", ((0.3, 0.0), (0.7, 0.0)), ((0.0, 0.0), (1.0, 0.0))]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("pairs", PAIRS)
def test_the_first_column_of_the_pairs_weighs_the_streams(pairs: Any, reduction: Any) -> None:
    method = build(batchformer(pairs=pairs, reduction=reduction), prior=1.0)
    streams = method.relation.queries(method.backbone(view()), batch().samples, CONTEXT, 1)
    weights = [row[0] for row in method.relation.rules.weights]
    expected = torch.zeros((), dtype=torch.float64)
    for weight, stream in zip(weights, streams, strict=True):
        scores = method.fc(stream) + torch.tensor(COUNTS).double().log()
        expected = expected + weight * functional.cross_entropy(scores, LABELS)
    expected = expected / sum(weights) if reduction == "mean" else expected
    torch.testing.assert_close(method(batch(), CONTEXT), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 7, 1000])
def test_a_prior_of_one_adds_the_log_counts_whatever_their_scale(scale: int) -> None:
    counts = tuple(scale * count for count in COUNTS)
    start = Start(backbone(), WIDTH, seed=3, classes=Classes(CLASSES.names, counts))
    method = ClassifierConfig(prior=1.0).build(start).double()
    scores = method.fc(method.backbone(view())) + torch.tensor(COUNTS).double().log()
    expected = functional.cross_entropy(scores, LABELS)
    assert abs(method(batch(), CONTEXT).item() - expected.item()) < 1e-6


def test_ldam_and_late_weights_equal_the_definition() -> None:
    method = build(margin=0.5, reweight_from=0.8)
    features = functional.normalize(method.backbone(view()), dim=1)
    cosines = features @ functional.normalize(method.fc.weight, dim=1).T
    weights = effective_number_weights(torch.tensor(COUNTS), 0.9999)
    for elapsed, weighted in ((0.79, False), (0.8, True)):
        total = 0.0
        for row, label in enumerate(LABELS.tolist()):
            scores = [30 * cosines[row, c].item() for c in range(3)]
            scores[label] -= 30 * 0.5 * (min(COUNTS) / COUNTS[label]) ** 0.25
            own = -torch.tensor(scores, dtype=torch.float64).log_softmax(0)[label].item()
            total += own * (weights[label].item() if weighted else 1.0)
        found = method(batch(), StepContext(elapsed=elapsed)).item()
        assert found == pytest.approx(total / N, rel=1e-6)


RELATIONS: dict[str, RelationConfig] = {
    "copy": CopyConfig(insert_at="backbone"),
    "batchformer": batchformer(dropout=0.5),
    "related alone": batchformer(pairs=((0.0, 0.0), (1.0, 0.0))),
    "self_only": SelfOnlyConfig(heads=2, insert_at="backbone"),
}


@pytest.mark.parametrize("margin", [0.0, 0.5])
@pytest.mark.parametrize("relation", RELATIONS)
def test_in_evaluation_logits_are_bit_equal_with_and_without_relation(
    relation: str, margin: float
) -> None:
    related = build(RELATIONS[relation], margin=margin)
    step(related)
    plain = build(margin=margin)
    state = snapshot(related)
    plain.load_state_dict({key: state[key] for key in plain.state_dict()})
    logits = []
    for method in (related.eval(), plain.eval()):
        method(batch(view(5)), CONTEXT)
        assert method.answered is not None
        logits.append(method.answered[0])
    assert logits[0].shape == (1, N, 3)
    assert torch.equal(*logits)


def test_a_relation_changes_no_other_initial_value() -> None:
    plain, related = build().state_dict(), build(batchformer()).state_dict()
    for name, value in plain.items():
        assert torch.equal(value, related[name]), name
    assert {name.split(".")[0] for name in related.keys() - plain.keys()} == {"relation"}


@pytest.mark.parametrize("stream", [0, 1])
def test_the_loss_of_an_image_reaches_others_through_the_related_stream_alone(stream: int) -> None:
    method = build(batchformer(context="local"))
    features = view().flatten(1)[:, :WIDTH].requires_grad_()
    logits = method.logits(method.relation.queries(features, batch().samples, CONTEXT, 1))
    for row in range(N):
        loss = method.loss(
            logits[stream : stream + 1, row : row + 1], LABELS[row : row + 1], elapsed=0
        )
        (gradient,) = torch.autograd.grad(loss.sum(), features, retain_graph=True)
        reached = gradient.abs().amax(dim=1) > 0
        assert torch.equal(reached, torch.arange(N) == row if stream == 0 else reached | True)
        assert reached.all() == (stream == 1)


def test_permuting_a_batch_permutes_its_logits() -> None:
    method = build(batchformer(context="local"))
    order = torch.randperm(N, generator=torch.Generator().manual_seed(4))
    method(batch(), CONTEXT)
    assert method.answered is not None
    before = method.answered[0]
    method(batch(view()[order], LABELS[order]), CONTEXT)
    torch.testing.assert_close(method.answered[0], before[:, order], rtol=1e-9, atol=1e-12)


def test_a_relation_inside_the_backbone_has_both_streams() -> None:
    relation = BatchFormerV2Config(heads=2, context=4, insert_after=(4,))
    start = Start(build_backbone("small_conv"), 128, relation, classes=CLASSES)
    method = ClassifierConfig().build(start)
    images = torch.randn(N, 3, 8, 8)
    torch.autograd.backward(method(Batch((images,), torch.arange(N), LABELS), CONTEXT))
    assert method.projections is not None
    assert method.projections.shape == (2, N, 128)
    assert all(p.grad is not None for p in method.parameters())


def test_it_learns_a_batch_by_heart_and_says_so() -> None:
    method = build(batchformer())
    assert method.measurements() == {}
    losses = [step(method).item() for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]
    values = method.measurements()
    assert values["batch_top1/stream_0"] > 80
    assert values["feature_std/stream_1"] > 0


def test_under_bf16_the_loss_is_float32() -> None:
    method = build(batchformer(), prior=1.0).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method(batch(view().float()), CONTEXT)
    assert loss.dtype == torch.float32


# Relations and classes that cannot work


@pytest.mark.parametrize("pairs", ["all", "matched", "plain_queries", ((1.0, 0.1), (1.0, 0.0))])
def test_pairs_with_a_second_column_are_refused(pairs: Any) -> None:
    with pytest.raises(InputError, match=r"^relation\.pairs: .*labels have no related stream"):
        build(batchformer(pairs=pairs))


def test_a_relation_at_the_projection_is_refused() -> None:
    with pytest.raises(InputError, match=r"^relation\.insert_at: projection, but a classifier has"):
        build(batchformer(insert_at="projection"))


def test_a_class_without_training_images_is_refused() -> None:
    classes = Classes(("cat", "dog", "owl"), (3, 0, 2))
    with pytest.raises(InputError, match=r"^data: 1 of 3 classes have no training image \(dog\)"):
        ClassifierConfig().build(Start(backbone(), WIDTH, classes=classes))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"prior": -0.1}, "prior: must be >= 0"),
        ({"prior": float("nan")}, "prior: must be >= 0"),
        ({"margin": -1.0}, "margin: must be >= 0"),
        ({"label_smoothing": 1.0}, r"label_smoothing: must lie in \[0, 1\)"),
        ({"probe_until": 1.0}, r"probe_until: must lie in \[0, 1\)"),
        ({"reweight_from": 1.1}, r"reweight_from: must lie in \[0, 1\]"),
        ({"average_from": -0.1}, r"average_from: must lie in \[0, 1\]"),
        ({"layer_decay": 0.0}, r"layer_decay: must lie in \(0, 1\]"),
        ({"margin_scale": 10.0}, "margin_scale: does nothing with margin=0"),
        ({"margin": 0.5, "margin_scale": 0.0}, "margin_scale: must be > 0"),
        ({"batch_norm": "everything"}, "batch_norm: expected local"),
    ],
)
def test_settings_without_meaning_are_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ClassifierConfig(**keys)


# Fine-tuning


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


def test_while_probing_the_classifier_alone_is_trained() -> None:
    method = build(probe_until=0.3)
    before = snapshot(method)
    step(method, elapsed=0.29)
    assert moved(before, snapshot(method)) == {"fc"}  # BatchNorm's statistics stay as well
    assert all(each.training for each in method.modules())
    step(method, elapsed=0.3)
    assert moved(before, snapshot(method)) == {"fc", "backbone"}


@pytest.mark.parametrize("optimizer", [SgdConfig(), LarsConfig(), AdamWConfig()])
def test_one_optimizer_probes_and_then_trains_all(optimizer: Any) -> None:
    method = build(batchformer(), probe_until=0.5).float()
    made = build_optimizer(optimizer, method.parameter_groups())
    for group in made.param_groups:
        group["lr"] = 0.1
    before = snapshot(method)
    for elapsed in (0.0, 0.25, 0.5, 0.75):
        made.zero_grad()
        images = view().float()
        torch.autograd.backward(method(batch(images), StepContext(seed=1, elapsed=elapsed)))
        made.step()
        expected = {"fc", "relation"} | ({"backbone"} if elapsed >= 0.5 else set())
        assert moved(before, snapshot(method)) == expected


def test_a_probe_sees_the_features_of_evaluation() -> None:
    method = build(probe_until=0.3)
    method.backbone(view(9))  # moves the running statistics
    expected = method.backbone.eval()(view())
    method.backbone.train()
    method(batch(), StepContext(elapsed=0.0))
    assert method.projections is not None
    assert torch.equal(method.projections[0], expected)


def test_learning_rates_fall_towards_the_input() -> None:
    start = Start(build_backbone("small_conv"), 128, batchformer(lr_scale=0.5), classes=CLASSES)
    method = ClassifierConfig(layer_decay=0.5).build(start)
    scales = {}
    for group in method.parameter_groups():
        for name, _ in group.parameters:
            assert name not in scales
            scales[name] = group.learning_rate_scale
    assert scales.keys() == {name for name, p in method.named_parameters() if p.requires_grad}
    for layer in range(4):
        assert scales[f"backbone.layers.{layer}.0.weight"] == 0.5 ** (4 - layer)
    assert scales["fc.weight"] == scales["fc.bias"] == 1
    assert all(scale == 0.5 for name, scale in scales.items() if name.startswith("relation."))


def test_layer_decay_needs_a_backbone_with_stages() -> None:
    with pytest.raises(InputError, match="has no stages"):
        build(layer_decay=0.5).parameter_groups()


def test_frozen_batch_norm_keeps_its_statistics_and_uses_them() -> None:
    method = build(batch_norm="frozen")
    norm = method.backbone[2]  # type: ignore[index]
    with torch.no_grad():
        norm.running_mean.add_(0.3)
        norm.running_var.mul_(2)
    before = snapshot(method)
    method(batch(), CONTEXT)
    assert method.projections is not None
    assert torch.equal(method.projections[0], method.backbone.eval()(view()))
    method.train()
    step(method)
    after = snapshot(method)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(after[f"backbone.2.{name}"], before[f"backbone.2.{name}"])
    assert not torch.equal(after["backbone.2.weight"], before["backbone.2.weight"])
    assert not method.notes()


def test_frozen_statistics_of_no_training_are_warned_of() -> None:
    [note] = build(batch_norm="frozen").notes()
    assert note.startswith("warning: method.batch_norm=frozen keeps")


def test_the_averaged_weights_are_kept_and_handed_over(tmp_path: Path) -> None:
    start = Start(build_backbone("small_conv"), 128, classes=CLASSES)
    method = ClassifierConfig(average_from=0.5).build(start)
    iterates: list[dict[str, Tensor]] = []
    for number, elapsed in enumerate((0.2, 0.6, 0.7, 0.8)):
        images = torch.randn(N, 3, 8, 8, generator=torch.Generator().manual_seed(number))
        for p in method.parameters():
            p.grad = None
        torch.autograd.backward(method(Batch((images,), torch.arange(N), LABELS), CONTEXT))
        with torch.no_grad():
            for p in method.parameters():
                if p.grad is not None:
                    p.sub_(0.1 * p.grad)
        method.after_step(Elapsed(elapsed, 1))
        if elapsed > 0.5:
            iterates.append(snapshot(method.backbone) | {"fc": method.fc.weight.detach().clone()})
    info = BackboneInfo("small_conv", 128, 8, (0.5,) * 3, (0.2,) * 3)
    written = method.hand_over(tmp_path / "backbone.safetensors", info)
    found = load_backbone(written["stripped backbone"])[0].state_dict()
    classifier = load_classifier(written["classifier"])
    mean = {
        name: torch.stack([each[name].float() for each in iterates]).mean(dim=0)
        for name in iterates[0]
    }
    for name, value in found.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, mean[name])
    torch.testing.assert_close(classifier.weight, mean["fc"])
    assert classifier.info.backbone_sha256 == backbone_digest(method.kept_backbone)


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_the_file_has_the_methods_own_logits(tmp_path: Path, margin: float) -> None:
    start = Start(build_backbone("small_conv"), 128, batchformer(), classes=CLASSES)
    method = ClassifierConfig(margin=margin, prior=1.0).build(start)
    images = torch.randn(N, 3, 8, 8)
    method(Batch((images,), torch.arange(N), LABELS), CONTEXT)
    method.eval()
    info = BackboneInfo("small_conv", 128, 8, (0.5,) * 3, (0.2,) * 3)
    written = method.hand_over(tmp_path / "backbone.safetensors", info)
    features = load_backbone(written["stripped backbone"])[0](images)
    classifier = load_classifier(written["classifier"])
    method(Batch((images,), torch.arange(N), LABELS), CONTEXT)
    assert method.answered is not None
    torch.testing.assert_close(classifier.logits(features), method.answered[0][0])
    assert classifier.info.class_names == CLASSES.names


def test_keys_that_change_on_the_way_are_named() -> None:
    assert build().changing_keys() == []
    assert build(reweight_from=0.8, probe_until=0.1, average_from=0.5).changing_keys() == [
        "method.reweight_from",
        "method.probe_until",
        "method.average_from",
    ]
    assert build(batchformer(active=(0.0, 0.9))).changing_keys() == ["relation.active"]
