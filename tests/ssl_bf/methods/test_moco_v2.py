"""Tests of ssl_bf.methods.moco_v2; tests/parity compares with the published numbers."""

import math
import re
from functools import partial
from itertools import pairwise, product
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from linear_eval.system.errors import InputError
from ssl_bf.keyed_random import StepContext
from ssl_bf.layers.batch_norm import set_batch_norm_mode
from ssl_bf.losses.info_nce import Negatives, info_nce
from ssl_bf.losses.unit_length import unit_length
from ssl_bf.methods.measurements import context_gap
from ssl_bf.methods.method import Start
from ssl_bf.methods.moco_v2 import MoCoV2, MoCoV2Config
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.parts.key_queue import NO_IMAGE
from ssl_bf.relations import RelationConfig
from ssl_bf.relations.batch_graphs import Teacher
from ssl_bf.relations.batchformer import BatchFormerConfig, BatchTransformer
from ssl_bf.relations.bgformer import BGFormerConfig
from ssl_bf.relations.no_relation import NoRelationConfig
from ssl_bf.relations.streams import Pairs, mean_over_stream_pairs
from ssl_bf.relations.surroundings import Samples
from ssl_bf.schedules import Elapsed
from tests.pairs import pair

N, WIDTH, OUT, QUEUE = 6, 8, 4, 24
SAMPLES = Samples(torch.tensor([11, 5, 7, 2, 13, 3]))
PAIRS: list[Pairs] = ["plain_keys", "all", "matched", "plain_queries", ((0.5, 0.0), (2.0, 1.0))]
QueueStreams = Literal["dual", "both", "plain"]
QUEUE_STREAMS: list[QueueStreams] = ["dual", "both", "plain"]
IDS = SAMPLES.image_ids
CONTEXT = StepContext(seed=1, step=4)


def build(
    relation: RelationConfig | None = None, *, backbone: nn.Module | None = None, **keys: Any
) -> MoCoV2:
    """Rows go straight into a head without BatchNorm, unless said otherwise."""
    config = MoCoV2Config(**{"projection_dim": OUT, "queue_size": QUEUE, **keys})
    start = Start(backbone or nn.Identity(), WIDTH, relation or NoRelationConfig())
    return config.build(start).double()


def batchformer(**keys: Any) -> BatchFormerConfig:
    return BatchFormerConfig(**{"heads": 2, "context": 3, "dropout": 0.0, "pairs": "all", **keys})


def views(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn(2, N, WIDTH, generator=generator, dtype=torch.float64)
    return both[0], both[1]


def queries_and_keys(method: MoCoV2, view_1: Tensor, view_2: Tensor) -> tuple[Tensor, Tensor]:
    queries = method.query(view_1, SAMPLES, CONTEXT, 1)
    return queries, method.key(view_2, SAMPLES, CONTEXT, 2)


def fill_queues(method: MoCoV2) -> None:
    """Past keys: some of images that are in the batch, some of others, some of none."""
    for number in range(len(method.queues)):
        generator = torch.Generator().manual_seed(50 + number)
        keys = torch.randn(9, OUT, generator=generator, dtype=torch.float64)
        method.queue(number).push(
            unit_length(keys), torch.tensor([2, 40, 5, 5, 41, 13, 42, 11, 43])
        )


def contrast(method: MoCoV2, queries: Tensor, keys: Tensor, ids: Tensor) -> Tensor:
    """The loss of one direction."""
    loss, rules = partial(info_nce, temperature=method.config.temperature), method.relation.rules
    return mean_over_stream_pairs(loss, queries, keys, rules, method.negatives(keys, ids))


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def by_loops(method: MoCoV2, queries: Tensor, keys: Tensor) -> float:
    """The loss from its definition, one candidate at a time."""
    config, rules = method.config, method.relation.rules
    total, weights = 0.0, 0.0
    for a, c in product(range(len(queries)), range(len(keys))):
        weight = 1.0 if len(queries) == len(keys) == 1 else rules.weights[a][c]
        queue = method.queue(c if config.queue_streams == "dual" else 0)
        for i, query in enumerate(unit_length(queries[a]).tolist()):
            candidates = [dot(query, keys[c, i].tolist())]
            for past, image in zip(queue.keys.tolist(), queue.image_ids.tolist(), strict=True):
                if not (config.mask_same_image and image == int(IDS[i])):
                    candidates.append(dot(query, past))
            if config.in_batch_negatives:
                candidates += [dot(query, keys[c, j].tolist()) for j in range(N) if j != i]
            scaled = [value / config.temperature for value in candidates]
            term = math.log(sum(math.exp(value) for value in scaled)) - scaled[0]
            total += weight * term / N
        weights += weight
    return total / weights if rules.reduction == "mean" or weights == 1 else total


@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("queue_streams", QUEUE_STREAMS)
@pytest.mark.parametrize("in_batch_negatives", [True, False])
@pytest.mark.parametrize("mask_same_image", [True, False])
def test_the_loss_equals_its_definition(
    pairs: Pairs, queue_streams: QueueStreams, in_batch_negatives: bool, mask_same_image: bool
) -> None:
    method = build(
        batchformer(pairs=pairs),
        queue_streams=queue_streams,
        in_batch_negatives=in_batch_negatives,
        mask_same_image=mask_same_image,
    )
    fill_queues(method)
    view_1, view_2 = views()
    expected = by_loops(
        method, method.query(view_1, SAMPLES, CONTEXT, 1), method.key(view_2, SAMPLES, CONTEXT, 2)
    )
    assert method(pair(view_1, view_2, IDS), CONTEXT).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("in_batch_negatives", [True, False])
def test_the_loss_without_a_relation_equals_its_definition(in_batch_negatives: bool) -> None:
    method = build(in_batch_negatives=in_batch_negatives, mask_same_image=True)
    fill_queues(method)
    view_1, view_2 = views()
    expected = by_loops(
        method, method.query(view_1, SAMPLES, CONTEXT, 1), method.key(view_2, SAMPLES, CONTEXT, 2)
    )
    assert method(pair(view_1, view_2, IDS), CONTEXT).item() == pytest.approx(expected, rel=1e-12)


def test_random_networks_give_about_the_log_of_the_number_of_candidates() -> None:
    method = build(projection_dim=512, queue_size=60, temperature=1.0)
    with initial_values(1, "keys"):  # the key encoder starts equal, which makes positives similar
        for p in method.slow_projector.parameters():
            nn.init.normal_(p)
    assert method(pair(*views(), IDS)).item() == pytest.approx(math.log(61), abs=0.1)


@pytest.mark.parametrize("pairs", ["plain_keys", "all"])
def test_the_symmetric_loss_is_the_mean_of_its_two_directions(pairs: Pairs) -> None:
    method, one_way = (build(batchformer(pairs=pairs), symmetric=is_) for is_ in (True, False))
    view_1, view_2 = views()
    queries = [one_way.query(view, SAMPLES, CONTEXT, n) for n, view in ((1, view_1), (2, view_2))]
    keys = [one_way.key(view, SAMPLES, CONTEXT, n) for n, view in ((1, view_1), (2, view_2))]
    forth = contrast(one_way, queries[0], keys[1], IDS)
    back = contrast(one_way, queries[1], keys[0], IDS)
    torch.testing.assert_close(method(pair(view_1, view_2, IDS), CONTEXT), (forth + back) / 2)


def test_an_older_key_of_the_same_image_is_no_negative_of_that_query_alone() -> None:
    queries, keys = (unit_length(view)[None, :, :OUT] for view in views())
    for masks in (True, False):
        method = build(mask_same_image=masks)
        method.queue(0).push(keys[0, 3:4], torch.tensor([2]))  # image 2 is row 3
        method.queue(0).push(keys[0, 2:3], torch.tensor([NO_IMAGE]))
        before = per_image_losses(method, queries, keys)
        with torch.no_grad():
            method.queue(0).keys[0].neg_()
        after = per_image_losses(method, queries, keys)
        changed = [not math.isclose(a, b) for a, b in zip(before, after, strict=True)]
        assert changed == [True, True, True, not masks, True, True]


def per_image_losses(method: MoCoV2, queries: Tensor, keys: Tensor) -> list[float]:
    rows = [slice(i, i + 1) for i in range(N)]
    return [contrast(method, queries[:, r], keys[:, r], IDS[r]).item() for r in rows]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("queue_streams", QUEUE_STREAMS)
@pytest.mark.parametrize("pairs", ["plain_keys", "all"])
def test_a_step_pushes_its_keys_in_order_and_moves_the_pointer(
    pairs: Pairs, queue_streams: QueueStreams, symmetric: bool
) -> None:
    method = build(batchformer(pairs=pairs), queue_streams=queue_streams, symmetric=symmetric)
    view_1, view_2 = views()
    keys = method.key(view_2, SAMPLES, CONTEXT, 2)  # (S, N, P)
    ids = IDS
    if symmetric:
        keys = torch.cat([keys, method.key(view_1, SAMPLES, CONTEXT, 1)], dim=1)
        ids = torch.cat([IDS, IDS])
    streams = list(keys)
    if queue_streams == "both" and pairs == "all":
        streams, ids = [torch.cat(streams)], torch.cat([ids, ids])
    expected = streams if queue_streams == "dual" else streams[:1]
    before = [method.queue(number).keys.clone() for number in range(len(method.queues))]

    method(pair(view_1, view_2, IDS), CONTEXT)
    assert all(torch.equal(method.queue(i).keys, b) for i, b in enumerate(before))
    method.push_keys()
    assert len(method.queues) == len(expected)
    for number, rows in enumerate(expected):
        queue, pushed = method.queue(number), len(rows)
        torch.testing.assert_close(queue.keys[:pushed], rows)
        torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(QUEUE).double())
        assert queue.image_ids[:pushed].tolist() == ids.tolist()
        assert torch.equal(queue.keys[pushed:], before[number][pushed:])
        assert int(queue.pointer) == pushed % QUEUE


def test_after_the_optimizer_step_keys_are_pushed_and_slow_copies_moved() -> None:
    method = build(momentum=0.0)
    _, view_2 = views()
    expected = method.key(view_2, SAMPLES, CONTEXT, 2)[0]
    method(pair(*views(), IDS), CONTEXT)
    with torch.no_grad():
        method.get_parameter("projector.0.weight").zero_()
    method.after_step(Elapsed(0.5, 1))
    torch.testing.assert_close(method.queue(0).keys[:N], expected)
    assert not method.get_parameter("slow_projector.0.weight").any()


def test_keys_are_pushed_once() -> None:
    method = build()
    method(pair(*views(), IDS), CONTEXT)
    method.push_keys()
    before = method.queue(0).keys.clone()
    method.push_keys()
    assert torch.equal(method.queue(0).keys, before)
    assert int(method.queue(0).pointer) == N


def test_the_two_queues_of_dual_start_with_keys_of_their_own() -> None:
    method = build(batchformer())
    assert len(method.queues) == 2
    assert not torch.equal(method.queue(0).keys, method.queue(1).keys)
    assert len(build(batchformer(pairs="plain_keys")).queues) == 1
    assert len(build().queues) == 1


@pytest.mark.parametrize("queue_streams", QUEUE_STREAMS)
def test_no_key_of_the_batch_is_in_the_queue_during_its_own_loss(
    monkeypatch: pytest.MonkeyPatch, queue_streams: QueueStreams
) -> None:
    method = build(batchformer(), queue_streams=queue_streams, symmetric=True)
    negatives, calls = method.negatives, []

    def watched(keys: Tensor, ids: Tensor) -> list[list[Negatives]]:
        past = torch.cat([method.queue(i).keys for i in range(len(method.queues))])
        calls.append((keys.flatten(0, 1) @ past.T).max().item())
        return negatives(keys, ids)

    monkeypatch.setattr(method, "negatives", watched)
    method(pair(*views(), IDS), CONTEXT)
    assert len(calls) == 2
    assert max(calls) < 1 - 1e-6
    method.push_keys()
    method(pair(*views(), IDS), CONTEXT)  # the same images once more: now their keys are past ones
    assert min(calls[2:]) > 1 - 1e-12


def test_forward_pushes_nothing_that_backward_still_needs() -> None:
    method = build(batchformer())
    loss = method(pair(*views(), IDS), CONTEXT)
    torch.autograd.backward(loss)
    method.push_keys()
    method(pair(*views(1), IDS), CONTEXT)
    assert method.pending is not None
    assert not method.pending[0].requires_grad


def test_the_gradient_reaches_the_query_side_only() -> None:
    method = build(batchformer(parameters="shared"))
    view_1, view_2 = (view.requires_grad_() for view in views())
    torch.autograd.backward(method(pair(view_1, view_2, IDS), CONTEXT))
    assert view_1.grad is not None
    assert view_1.grad.abs().amax(dim=1).min() > 1e-6
    assert view_2.grad is None


def test_the_gradient_of_a_shared_relation_comes_through_the_queries_alone() -> None:
    method = build(batchformer(parameters="shared"))
    view_1, view_2 = views()
    torch.autograd.backward(method(pair(view_1, view_2, IDS), CONTEXT))
    keys = method.key(view_2, SAMPLES, CONTEXT, 2).clone()  # plain numbers
    loss = contrast(method, method.query(view_1, SAMPLES, CONTEXT, 1), keys, IDS)
    for p in (p for p in method.parameters() if p.requires_grad):
        (expected,) = torch.autograd.grad(loss, p, retain_graph=True)
        torch.testing.assert_close(p.grad, expected)


@pytest.mark.parametrize("place", ["projection", "backbone"])
def test_the_loss_of_a_sample_reaches_the_others_through_its_related_query_alone(
    place: Literal["projection", "backbone"],
) -> None:
    method = build(batchformer(insert_at=place, context="local"))
    view_1, view_2 = views()
    view_1.requires_grad_()
    queries, keys = (
        method.query(view_1, SAMPLES, CONTEXT, 1),
        method.key(view_2, SAMPLES, CONTEXT, 2),
    )
    for (a, query), (c, key), i in product(enumerate(queries), enumerate(keys), range(N)):
        past = [Negatives(method.queue(c).keys)]
        loss = info_nce(query[i : i + 1], key[i : i + 1], past, 0.2)
        (gradient,) = torch.autograd.grad(loss, view_1, retain_graph=True)
        reached = (gradient.abs().amax(dim=1) > 0).tolist()
        assert reached == ([True] * N if a == 1 else [j == i for j in range(N)])


def test_shuffled_keys_belong_to_their_images_whatever_computes_row_by_row() -> None:
    relation = batchformer(parameters="shared", context="local")
    shuffling, plain = (build(relation, batch_norm=mode) for mode in ("groups:2", "local"))
    for number, view in enumerate(views(), start=1):
        torch.testing.assert_close(
            shuffling.key(view, SAMPLES, CONTEXT, number), plain.key(view, SAMPLES, CONTEXT, number)
        )


def test_the_related_keys_of_a_shuffled_batch_are_given_back_stream_by_stream() -> None:
    method = build(batchformer(parameters="shared"), batch_norm="groups:2")
    assert isinstance(method.relation.relating, BatchTransformer)
    _, view = views()
    shuffle = CONTEXT.global_permutation("shuffle/2", N)
    groups = CONTEXT.permutation("groups/key/2", N)
    plain = method.slow_projector(view[shuffle])
    related = method.relation.relating(plain, groups, dropout=False)
    keys = method.key(view, SAMPLES, CONTEXT, 2)
    torch.testing.assert_close(keys[0, shuffle], unit_length(plain))
    torch.testing.assert_close(keys[1, shuffle], unit_length(related))


def norm_backbone() -> nn.Sequential:
    with initial_values(0, "backbone"):
        return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU())


def test_keys_are_normalised_in_other_groups_than_queries() -> None:
    method = build(backbone=norm_backbone(), batch_norm="groups:2")
    _, view = views()
    shuffle = CONTEXT.global_permutation("shuffle/2", N)
    encoder = nn.Sequential(norm_backbone().double(), method.slow_projector)
    parts = torch.cat([encoder(rows) for rows in view[shuffle].chunk(2)])
    keys = method.key(view, SAMPLES, CONTEXT, 2)[0]
    torch.testing.assert_close(keys[shuffle], unit_length(parts).detach())
    in_order = torch.cat([encoder(rows) for rows in view.chunk(2)])
    assert (keys - unit_length(in_order)).abs().max() > 1e-3
    queries = method.query(view, SAMPLES, CONTEXT, 2)[0]
    torch.testing.assert_close(queries, in_order)


@pytest.mark.parametrize("mode", ["local", "synchronised"])
def test_one_device_with_one_group_does_not_shuffle(
    monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    def refuse(*_: object) -> Tensor:
        raise AssertionError("shuffled")

    monkeypatch.setattr(StepContext, "global_permutation", refuse)
    build(batch_norm=mode)(pair(*views(), IDS), CONTEXT)
    build(batch_norm="groups:2").eval()(pair(*views(), IDS), CONTEXT)
    with pytest.raises(AssertionError, match="shuffled"):
        build(batch_norm="groups:2")(pair(*views(), IDS), CONTEXT)


def test_the_key_encoder_starts_equal_and_follows_batch_norm_of_its_own() -> None:
    method = build(backbone=norm_backbone())
    for slow, fast in method.slow_pairs():
        torch.testing.assert_close(dict(slow.state_dict()), dict(fast.state_dict()), rtol=0, atol=0)
    view_1, view_2 = views()
    method(pair(view_1, view_2, IDS), CONTEXT)
    reference = norm_backbone().double()
    reference(view_2)
    torch.testing.assert_close(
        dict(method.slow_backbone.state_dict()), dict(reference.state_dict())
    )


def test_the_mode_of_batch_norm_reaches_the_key_encoder_too() -> None:
    method = build(backbone=norm_backbone(), head_batch_norm=True, batch_norm="groups:2")
    reference = nn.Sequential(norm_backbone())
    set_batch_norm_mode(reference, "groups:2")
    kind = type(reference.get_submodule("0.1"))
    for name in ("backbone.1", "slow_backbone.1", "projector.1", "slow_projector.1"):
        assert type(method.get_submodule(name)) is kind


@pytest.mark.parametrize(
    ("keys", "head"),
    [
        ({}, [WIDTH, OUT]),
        ({"hidden_dim": 5}, [5, OUT]),
        ({"hidden_dim": 5, "hidden_layers": 2}, [5, 5, OUT]),
    ],
)
def test_the_head_is_as_configured(keys: dict[str, Any], head: list[int]) -> None:
    linears = [m for m in build(**keys).projector.modules() if isinstance(m, nn.Linear)]
    assert [m.out_features for m in linears] == head


@pytest.mark.parametrize(
    ("queue_streams", "pairs", "symmetric", "rows"),
    [
        ("dual", "all", False, 12),
        ("both", "all", False, 24),
        ("both", "plain_keys", False, 12),
        ("plain", "all", True, 24),
        ("both", "all", True, 48),
    ],
)
def test_a_queue_that_no_whole_number_of_steps_fills_is_refused(
    queue_streams: QueueStreams, pairs: Pairs, symmetric: bool, rows: int
) -> None:
    keys: dict[str, Any] = {"queue_streams": queue_streams, "symmetric": symmetric}
    for size in (rows, 3 * rows):
        build(batchformer(pairs=pairs), queue_size=size, **keys).check_batch(N, 2)
    for size in (rows // 2, 3 * rows + 1, 2 * rows - 1):
        with pytest.raises(InputError, match=f"method.queue_size: {size} .* {rows} keys") as error:
            build(batchformer(pairs=pairs), queue_size=size, **keys).check_batch(N, 2)
        proposal = re.search(r"try (\d+)", str(error.value))
        assert proposal is not None
        proposed = int(proposal[1])
        build(batchformer(pairs=pairs), queue_size=proposed, **keys).check_batch(N, 2)


@pytest.mark.parametrize("parameters", ["ema", "shared", "frozen"])
@pytest.mark.parametrize("pairs", ["plain_keys", "all", "plain_queries"])
@pytest.mark.parametrize("queue_streams", QUEUE_STREAMS)
def test_keys_of_a_fast_module_in_a_queue_are_warned_of(
    parameters: Literal["ema", "shared", "frozen"], pairs: Pairs, queue_streams: QueueStreams
) -> None:
    relation = batchformer(parameters=parameters, pairs=pairs)
    notes = build(relation, queue_streams=queue_streams).notes()
    poisons = parameters == "shared" and pairs == "all" and queue_streams != "plain"
    assert [note.startswith("warning: relation.parameters=shared") for note in notes] == (
        [True] if poisons else []
    )


def test_the_context_gap_is_measured_against_plain_keys_and_their_queue() -> None:
    method = build(batchformer())
    fill_queues(method)
    view_1, view_2 = views()
    method(pair(view_1, view_2, IDS), CONTEXT)
    queries, keys = (
        method.query(view_1, SAMPLES, CONTEXT, 1),
        method.key(view_2, SAMPLES, CONTEXT, 2),
    )
    expected = context_gap(queries, keys[0], method.queue(0).keys)
    values = method.measurements()
    for name in ("context_gap", "feature_std", "positive_logit", "negative_logit"):
        assert {f"{name}/stream_0", f"{name}/stream_1"} <= set(values)
    assert {"attention_entropy/layer_0", "stream_cosine"} <= set(values)
    assert {name: values[name] for name in expected} == pytest.approx(expected)


class Signature(nn.Module):
    """Rows of a step, with a direction of the step added to all of them."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength, self.step = strength, 0

    def forward(self, rows: Tensor) -> Tensor:
        source = torch.Generator().manual_seed(self.step)
        direction = torch.randn(WIDTH, generator=source, dtype=torch.float64)
        length: Tensor = self.strength * math.sqrt(WIDTH) / direction.norm()
        return rows + length * direction


def gaps_with_signature(relation: RelationConfig, strength: float) -> list[float]:
    """The meter of each stream after steps that filled the queue, in batches of 96 rows."""
    rows, steps = 96, 8
    backbone = Signature(strength)
    method = build(relation, backbone=backbone, queue_size=rows * steps, hidden_dim=32)
    for part in ("projector", "slow_projector"):  # wider than at the start, where all keys agree
        for p in method.get_submodule(part).parameters():
            p.data *= 4 if p.ndim == 2 else 0
    assert isinstance(method.slow_backbone, Signature)
    taken: list[list[float]] = []
    for step in range(2 * steps):
        backbone.step = method.slow_backbone.step = step
        source = torch.Generator().manual_seed(100 + step)
        images = torch.randn(2, rows, WIDTH, generator=source, dtype=torch.float64)
        method(pair(images[0], images[1], rows * step + torch.arange(rows)), CONTEXT)
        if step >= steps:
            values = method.measurements()
            taken.append([v for name, v in values.items() if name.startswith("context_gap")])
        method.push_keys()
    return torch.tensor(taken).mean(dim=0).tolist()


@pytest.mark.parametrize(
    "relation", [NoRelationConfig(), BatchFormerConfig(heads=2, context=32, dropout=0.0)]
)
def test_the_context_gap_rises_with_a_signature_of_the_batch(relation: RelationConfig) -> None:
    """And is nothing without one, with `none` and with an untrained relation."""
    found = [gaps_with_signature(relation, strength) for strength in (0.0, 0.5, 1.0, 2.0)]
    for gaps in zip(*found, strict=True):  # of a stream
        assert abs(gaps[0]) < 0.02, found
        assert all(weaker + 0.03 < stronger for weaker, stronger in pairwise(gaps)), found
        assert gaps[-1] > 0.2, found


@pytest.mark.parametrize("place", ["projection", "backbone"])
def test_a_teacher_shows_the_slow_features_of_the_queried_view(
    place: Literal["projection", "backbone"],
) -> None:
    relation = BGFormerConfig(heads=1, context="local", graph="teacher_knn", insert_at=place)
    generator = torch.Generator().manual_seed(0)
    view_1, view_2 = torch.randn(2, 4, WIDTH, generator=generator, dtype=torch.float64)
    start = Start(nn.Identity(), WIDTH, relation)
    method = MoCoV2Config(projection_dim=8, hidden_dim=8, queue_size=64).build(start).double()
    assert isinstance(method.relation.surroundings, Teacher)
    with torch.no_grad():
        for p in method.slow_projector.parameters():
            p.mul_(1.5)
    method(pair(view_1, view_2))
    expected = method.slow_projector(view_1) if place == "projection" else view_1
    assert torch.equal(method.relation.surroundings.noted[1], expected)
    assert not method.relation.surroundings.noted[1].requires_grad
