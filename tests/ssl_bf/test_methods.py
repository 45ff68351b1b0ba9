"""What metric learning and PaCo keep, whatever the relation. Float64 and tiny networks."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from linear_eval.system.errors import InputError
from ssl_bf.keyed_random import StepContext
from ssl_bf.losses.class_info_nce import class_info_nce
from ssl_bf.losses.pair_loss import pair_loss
from ssl_bf.losses.unit_length import unit_length
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.classes import Classes
from ssl_bf.methods.method import Method, Start
from ssl_bf.methods.metric import MetricConfig
from ssl_bf.methods.metric_losses import ClassInfoNceConfig, PairsConfig, ProxyAnchorConfig
from ssl_bf.methods.paco import PaCo, PaCoConfig
from ssl_bf.optimizers import SgdConfig, build_optimizer
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.relations import RelationConfig
from ssl_bf.relations.batch_graphs import normalised
from ssl_bf.relations.batchformer import BatchFormerConfig
from ssl_bf.relations.bgformer import BGFormer, BGFormerConfig
from ssl_bf.relations.controls import CopyConfig, DropoutOnlyConfig, SelfOnlyConfig, UniformConfig
from ssl_bf.relations.foreign import ForeignConfig
from ssl_bf.relations.no_relation import NoRelationConfig
from ssl_bf.schedules import Elapsed

N, WIDTH, OUT, QUEUE, C = 8, 8, 8, 16, 4
LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
METHODS: dict[str, Any] = {
    "pairs": MetricConfig(projection_dim=OUT),
    "info_nce": MetricConfig(projection_dim=OUT, loss=ClassInfoNceConfig()),
    "proxy_anchor": MetricConfig(projection_dim=OUT, loss=ProxyAnchorConfig(scale=4.0)),
    "paco": PaCoConfig(
        projection_dim=OUT, queue_size=QUEUE, hidden_dim=8, temperature=0.5, image_weight=0.3
    ),
}
SMALL: dict[str, Any] = {"heads": 2, "context": 4, "dropout": 0.0}
RELATIONS: dict[str, RelationConfig] = {
    "batchformer": BatchFormerConfig(**SMALL),
    "batchformer at the backbone": BatchFormerConfig(
        **SMALL, insert_at="backbone", pairs=((0.0, 0.0), (1.0, 0.0))
    ),
    "dropout_only": DropoutOnlyConfig(),
    "self_only": SelfOnlyConfig(heads=2, dropout=0.0),
    "uniform": UniformConfig(**SMALL),
    "foreign": ForeignConfig(**SMALL),
    "bgformer": BGFormerConfig(**SMALL, top_k=3),
    "bgformer with labels": BGFormerConfig(
        heads=2, context="local", top_k=3, graph="label", insert_at="backbone"
    ),
    "bgformer with a teacher": BGFormerConfig(**SMALL, top_k=3, graph="teacher_knn"),
}
each_method = pytest.mark.parametrize("name", METHODS)
each_relation = pytest.mark.parametrize("relation", RELATIONS)
CONTEXT = StepContext(seed=1)


def build(name: str, relation: RelationConfig | None = None, **keys: Any) -> Method:
    with initial_values(0, "backbone"):
        linear = nn.Linear(12, WIDTH, bias=False)
        backbone = nn.Sequential(nn.Flatten(), linear, nn.BatchNorm1d(WIDTH), nn.ReLU())
    classes = Classes(tuple("abcd"), (5, 4, 2, 1))
    start = Start(backbone, WIDTH, relation or NoRelationConfig(), seed=3, classes=classes)
    method: Method = replace(METHODS[name], **keys).build(start).double()
    method.relation.make_room(N, 2)
    return method


def batch_of(method: Method, seed: int = 0, labels: Tensor = LABELS) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    views = torch.randn(2, N, 3, 2, 2, generator=generator, dtype=torch.float64)
    return Batch(tuple(views[: method.views_per_image]), torch.arange(N), labels)


def step(method: Method, seed: int = 0) -> Tensor:
    optimizer = build_optimizer(SgdConfig(), method.parameter_groups())
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.zero_grad()
    torch.manual_seed(seed)
    loss: Tensor = method(batch_of(method, seed), CONTEXT)
    torch.autograd.backward(loss)
    optimizer.step()
    method.after_step(Elapsed(0.5, 1))
    return loss.detach()


def gradients(method: Method) -> dict[str, Tensor]:
    torch.autograd.backward(method(batch_of(method), CONTEXT))
    return {name: p.grad for name, p in method.named_parameters() if p.grad is not None}


@each_method
@each_relation
def test_in_evaluation_a_relation_leaves_no_trace(name: str, relation: str) -> None:
    related, plain = build(name, RELATIONS[relation]), build(name)
    step(related)
    state = related.state_dict()
    plain.load_state_dict({key: state[key] for key in plain.state_dict()})
    related.eval(), plain.eval()
    view = batch_of(plain, 5).views[0]
    assert torch.equal(related.backbone(view), plain.backbone(view))
    assert torch.equal(related(batch_of(related, 5)), plain(batch_of(plain, 5)))
    assert related.projections is not None
    assert related.projections.shape == (1, N, OUT)


@each_method
@each_relation
def test_a_relation_changes_nothing_of_the_other_initial_values(name: str, relation: str) -> None:
    plain, related = build(name).state_dict(), build(name, RELATIONS[relation]).state_dict()
    assert all(torch.equal(value, related[key]) for key, value in plain.items())
    assert {key.split(".")[0] for key in set(related) - set(plain)} <= {"relation"}


@each_method
@pytest.mark.parametrize("place", ["projection", "backbone"])
@pytest.mark.parametrize("pairs", ["plain_keys", ((0.3, 0.0), (0.7, 0.0)), ((0, 0), (1, 0))])
def test_copy_equals_none_in_loss_and_gradients(name: str, place: Any, pairs: Any) -> None:
    plain, copied = build(name), build(name, CopyConfig(insert_at=place, pairs=pairs))
    torch.testing.assert_close(
        copied(batch_of(copied), CONTEXT), plain(batch_of(plain), CONTEXT), rtol=1e-9, atol=0
    )
    torch.testing.assert_close(gradients(copied), gradients(plain), rtol=1e-8, atol=1e-12)


@each_method
@each_relation
def test_whatever_trains_receives_a_gradient_once(name: str, relation: str) -> None:
    method = build(name, RELATIONS[relation])
    found = gradients(method)
    trained = {name for name, p in method.named_parameters() if p.requires_grad}
    assert set(found) == trained
    in_groups = [name for group in method.parameter_groups() for name, _ in group.parameters]
    assert sorted(in_groups) == sorted(trained)


@each_method
def test_the_weights_of_the_streams_are_the_first_column(name: str) -> None:
    def loss(first: float, second: float) -> float:
        relation = BatchFormerConfig(**SMALL, pairs=((first, 0.0), (second, 0.0)))
        method = build(name, relation)
        return float(method(batch_of(method), CONTEXT).detach())

    alpha = 0.05
    assert loss(1, 0) == pytest.approx(float(step(build(name))))
    expected = alpha * loss(1, 0) + (1 - alpha) * loss(0, 1)
    assert loss(alpha, 1 - alpha) == pytest.approx(expected, rel=1e-9)
    assert loss(1, 0) != pytest.approx(loss(0, 1), rel=1e-6)


@each_method
@pytest.mark.parametrize("pairs", ["all", "matched", "related", "plain_queries"])
def test_related_keys_are_refused(name: str, pairs: Any) -> None:
    with pytest.raises(InputError, match="relation.pairs: .* labels have no related stream; set"):
        build(name, BatchFormerConfig(**SMALL, pairs=pairs))


@each_method
@each_relation
def test_it_goes_on_from_its_state_as_if_never_stopped(name: str, relation: str) -> None:
    whole, first = build(name, RELATIONS[relation]), build(name, RELATIONS[relation])
    step(whole), step(first)
    again = build(name, RELATIONS[relation])
    again.load_state_dict(first.state_dict())
    assert torch.equal(step(whole, 1), step(again, 1))
    for key, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


@each_method
@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_is_the_same_batch(name: str, parts: int) -> None:
    whole = build(name, batch_norm=f"groups:{parts}")
    in_parts = build(name, batch_norm=f"groups:{parts}")
    in_parts.compute_in_parts(parts, N)
    torch.testing.assert_close(gradients(in_parts), gradients(whole), rtol=1e-9, atol=1e-12)


@each_method
def test_the_loss_is_float32_under_bf16_and_labels_matter(name: str) -> None:
    method = build(name).float()
    batch = batch_of(method).map(lambda x: x.float() if x.is_floating_point() else x)
    with torch.autocast("cpu", torch.bfloat16):
        loss = method(batch, CONTEXT)
    assert loss.dtype == torch.float32
    others = build(name)
    assert float(others(batch_of(others), CONTEXT)) != float(
        others(batch_of(others, labels=LABELS.flip(0) // 2), CONTEXT)
    )


@each_method
def test_one_batch_can_be_learned_by_heart(name: str) -> None:
    method = build(name, RELATIONS["bgformer with labels"])
    losses = [float(step(method)) for _ in range(60)]
    assert losses[-1] < 0.7 * losses[0]


def test_the_batch_is_compared_as_the_losses_say() -> None:
    pairs, all_positives = build("pairs"), build("info_nce")
    [view] = batch_of(pairs).views
    rows = pairs.projector(pairs.backbone(view))
    assert torch.equal(pairs(batch_of(pairs), CONTEXT), pair_loss(rows, LABELS, 0.2))
    assert torch.equal(all_positives(batch_of(pairs), CONTEXT), class_info_nce(rows, LABELS, 0.1))


def test_proxies_have_a_learning_rate_of_their_own() -> None:
    groups = {group.name: group for group in build("proxy_anchor").parameter_groups()}
    assert [name for name, _ in groups["proxies"].parameters] == ["loss.proxies"]
    assert groups["proxies"].learning_rate_scale == 100
    assert "proxies" not in {group.name for group in build("pairs").parameter_groups()}


# PaCo


def paco_by_hand(method: PaCo, batch: Batch) -> float:
    assert batch.labels is not None
    config = method.config
    features = method.backbone(batch.views[0])
    queries = unit_length(method.projector(features)).detach()
    keys = unit_length(method.slow_projector(method.slow_backbone(batch.views[1])))
    shares = torch.tensor([5.0, 4, 2, 1], dtype=torch.float64) / 12
    logits = method.fc(features) + shares.log()
    losses = []
    for i, label in enumerate(batch.labels.tolist()):
        z = [(queries[j], int(batch.labels[j])) for j in range(N) if j != i]
        z += [(keys[j], int(batch.labels[j])) for j in range(N)]
        z += [(method.queue.keys[k], int(y)) for k, y in enumerate(method.queue.image_ids)]
        contrast = torch.stack([queries[i] @ row for row, _ in z]) / config.temperature
        log_p = torch.cat([logits[i], contrast]).log_softmax(0)
        total, weight = config.class_weight * log_p[label], config.class_weight
        for place, (_, other) in enumerate(z):
            if other == label:
                total = total + config.image_weight * log_p[C + place]
                weight += config.image_weight
        losses.append(-float(total) / weight)
    return sum(losses) / len(losses)


@pytest.mark.parametrize("steps", [0, 3])
def test_pacos_loss_is_its_formula(steps: int) -> None:
    method = build("paco")
    assert isinstance(method, PaCo)
    for seed in range(steps):
        step(method, seed)
    batch = batch_of(method, 9)
    assert float(method(batch, CONTEXT)) == pytest.approx(paco_by_hand(method, batch), rel=1e-6)


def test_the_queue_keeps_labels_and_starts_with_rows_of_no_class() -> None:
    method = build("paco")
    assert isinstance(method, PaCo)
    assert method.queue.image_ids.tolist() == [-1] * QUEUE
    step(method)
    assert method.queue.image_ids.tolist() == [*LABELS.tolist(), *[-1] * (QUEUE - N)]
    step(method)
    assert method.queue.image_ids.tolist() == [*LABELS.tolist()] * 2


def test_in_evaluation_the_classifier_sees_plain_features_and_no_key_is_trained() -> None:
    method = build("paco", RELATIONS["batchformer at the backbone"])
    assert isinstance(method, PaCo)
    queries, logits = method.query(batch_of(method).views[0], batch_of(method).samples, CONTEXT)
    assert queries.shape == (2, N, OUT)
    assert logits.shape == (2, N, C)
    method.eval()
    [row] = method.query(batch_of(method).views[0], batch_of(method).samples, CONTEXT)[1]
    assert torch.equal(row, method.fc(method.backbone(batch_of(method).views[0])))
    assert all(not p.requires_grad for copy, _ in method.slow_pairs() for p in copy.parameters())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PaCoConfig(image_weight=-1), "image_weight: must be >= 0"),
        (lambda: PaCoConfig(class_weight=0), "class_weight: must be > 0"),
        (lambda: PairsConfig(temperature=0.01), "temperature: must be >= 0.03"),
        (lambda: ClassInfoNceConfig(temperature=0), "temperature: must be > 0"),
        (lambda: ProxyAnchorConfig(scale=0), "scale: must be > 0"),
        (lambda: ProxyAnchorConfig(margin=-1), "margin: must be >= 0"),
        (lambda: ProxyAnchorConfig(lr_scale=0), "lr_scale: must be > 0"),
    ],
)
def test_keys_out_of_range_are_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_a_queue_that_steps_do_not_fill_is_refused() -> None:
    with pytest.raises(InputError, match="method.queue_size: 16 is not divisible by the 6 keys"):
        build("paco").check_batch(6, 1)


# The graph of labels


def related_by_labels(features: Tensor, labels: Tensor, order: Tensor | None = None) -> Tensor:
    config = BGFormerConfig(heads=2, context="local", top_k=3, graph="label")
    with initial_values(0, "relation"):
        relation = config.build(WIDTH, WIDTH, has_key_side=False).double()
    batch = Batch((), torch.arange(len(labels)), labels)
    return relation.queries(features, batch.samples, CONTEXT, 1)[1]


def test_the_graph_of_labels_follows_a_permutation_of_rows_with_their_labels() -> None:
    features = torch.randn(N, WIDTH, dtype=torch.float64)
    expected = related_by_labels(features, LABELS)
    order = torch.randperm(N)
    found = related_by_labels(features[order], LABELS[order])
    torch.testing.assert_close(found, expected[order], rtol=1e-9, atol=1e-12)
    renamed = related_by_labels(features, (LABELS + 1) % 4)
    torch.testing.assert_close(renamed, expected)
    assert not torch.allclose(related_by_labels(features, LABELS // 2), expected)


def test_the_graph_of_labels_is_row_stochastic_within_the_groups() -> None:
    config = BGFormerConfig(heads=2, context=4, top_k=3, graph="label")
    with initial_values(0, "relation"):
        relation = config.build(WIDTH, WIDTH, has_key_side=False)
    blocks = relation.relating
    assert isinstance(blocks, BGFormer)
    samples = Batch((), torch.arange(N), torch.tensor([3, 3, 1, 3, 0, 0, 0, 0])).samples
    assert relation.surroundings is not None
    beside = relation.surroundings.beside(torch.zeros(N, WIDTH), samples, "query", 1)
    edges = blocks.edges(torch.zeros(2, 4, WIDTH), None, beside)
    assert edges is not None
    assert edges[0].tolist()[2] == [False, False, True, False]
    assert edges[1].all()
    weights = normalised(edges)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4))
    torch.testing.assert_close(weights[1], (torch.ones(4, 4) + torch.eye(4)) / 5)


def test_metric_learning_may_freeze_batch_norm() -> None:
    method = build("pairs", batch_norm="frozen")
    [note] = method.notes()
    assert note.startswith("warning: method.batch_norm=frozen keeps")
    norm = method.backbone[2]  # type: ignore[index]
    norm.running_mean.fill_(0.3)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    step(method)
    after = method.state_dict()
    assert torch.equal(after["backbone.2.running_mean"], before["backbone.2.running_mean"])
    assert not torch.equal(after["backbone.2.weight"], before["backbone.2.weight"])
    assert not method.notes()
    with pytest.raises(ValueError, match="projection_dim: must be >= 1"):
        MetricConfig(batch_norm="frozen", projection_dim=0)
