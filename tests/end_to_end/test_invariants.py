"""The invariants 1 to 10 of a batch relation, for every relation x place x method there is.

The table is made from the unions: a new relation or method is in it without a word here, and a
place that a relation does not have must be refused. Where an invariant says nothing about a cell,
`says_nothing` gives the reason. Float64, tiny networks, away from the special initial values, and
after an earlier batch, so that memories hold something.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, get_args, get_type_hints

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from linear_eval.backbones.architectures import SmallConv, feature_dim
from linear_eval.strict_config.reader import ConfigError, parse_config
from ssl_bf.keyed_random import StepContext
from ssl_bf.methods import MethodConfig
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.method import Method, Start
from ssl_bf.methods.moco_v2 import MoCoV2
from ssl_bf.methods.moco_v3 import MoCoV3
from ssl_bf.methods.simsiam import SimSiam
from ssl_bf.optimizers import SgdConfig, build_optimizer
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.relations import RelationConfig
from ssl_bf.relations.bgformer import BGFormer
from ssl_bf.relations.no_relation import NoRelationConfig
from ssl_bf.relations.streams import StreamRules
from ssl_bf.relations.surroundings import Samples
from ssl_bf.schedules import Elapsed, Momentum
from tests.unions import LABELLED, members_of, small

N, GROUP, OUT, QUEUE = 8, 4, 8, 64
IDS = torch.arange(N)
SAMPLES = Samples(IDS)
CONTEXT = StepContext(seed=1, step=3)
RELATIONS = members_of(RelationConfig)
METHODS = {name: each for name, each in members_of(MethodConfig).items() if name not in LABELLED}
PLACES = ("projection", "backbone", "tokens")
SMALL_METHOD: dict[str, Any] = {"projection_dim": OUT, "hidden_dim": 8, "predictor_hidden_dim": 4}
SMALL_METHOD |= {"queue_size": QUEUE, "temperature": 0.5}
SMALL: dict[str, Any] = {"heads": 2, "context": GROUP, "top_k": GROUP, "dropout": 0.0}
SMALL |= {"pairs": "all", "insert_after": (1, 3)}
# Beside the defaults of each: name of a relation and the keys that make it another one.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in RELATIONS},
    "nearest_keys": ("nearest_keys", {"neighbours": 2, "memory": 16, "pairs": "plain_queries"}),
    "batchformer, neighbours": (
        "batchformer",
        {"context": "neighbours", "neighbours": 3, "memory": 16},
    ),
    "bgformer, teacher": ("bgformer", {"graph": "teacher_knn", "graph_neighbours": 1}),
    "bgformer, clusters": ("bgformer", {"graph": "cluster", "clusters": 3}),
    "batchformer_v2, uniform": ("batchformer_v2", {"attention": "uniform"}),
    "batchformer_v2, foreign": ("batchformer_v2", {"attention": "foreign"}),
}
# Whose related rows see the other rows of the batch, and pass gradients to them.
MIXING = {"batchformer", "batchformer_v2", "uniform", "bgformer", "bgformer, teacher"}
MIXING |= {"bgformer, clusters", "batchformer_v2, uniform"}


class Cell(NamedTuple):
    """A relation at a place in a method."""

    variant: str
    place: str
    method: str

    @property
    def relation(self) -> str:
        return VARIANTS[self.variant][0]


def places_of(relation: str) -> tuple[str, ...]:
    hint = get_type_hints(RELATIONS[relation]).get("insert_at")
    return () if hint is None else get_args(hint)


CELLS = [
    Cell(variant, place, method)
    for variant, (relation, _) in VARIANTS.items()
    for place in places_of(relation)
    for method in METHODS
]
REFUSED = [(name, place) for name in RELATIONS for place in PLACES if place not in places_of(name)]


def config_of(cell: Cell, **keys: Any) -> Any:
    given = SMALL | VARIANTS[cell.variant][1] | {"insert_at": cell.place} | keys
    return small(RELATIONS[cell.relation], **given)


def one_group(cell: Cell, **keys: Any) -> Any:
    """With all rows of the batch as context, or neighbours as they are."""
    is_free = VARIANTS[cell.variant][1].get("context") is None
    return config_of(cell, **keys, **({"context": "local"} if is_free else {}))


def has(cell: Cell, key: str) -> bool:
    return key in {each.name for each in fields(RELATIONS[cell.relation])}


def build(
    cell: Cell, relation: RelationConfig | None = None, *, fixed_statistics: bool = False
) -> Method:
    """The method of a cell, or with another relation in its place.

    With fixed statistics samples and streams meet in the relation alone, never in BatchNorm.
    """
    network: nn.Module
    with initial_values(0, "backbone"):
        if cell.place == "tokens":
            network, width = SmallConv(), feature_dim("small_conv")
        else:
            layers = [nn.Flatten(), nn.Linear(12, OUT), nn.BatchNorm1d(OUT), nn.Tanh()]
            network, width = nn.Sequential(*layers), OUT
    relation = config_of(cell) if relation is None else relation
    settings = small(METHODS[cell.method], **SMALL_METHOD)
    method: Method = settings.build(Start(network, width, relation, seed=3)).double()
    if method.momentum is not None:
        method.momentum = Momentum(0.9)
    method.relation.make_room(N, 2)
    with torch.no_grad(), initial_values(0, "away from the start"):
        relating, slow = method.relation.relating, method.relation.slow_relating
        for p in [] if relating is None else relating.parameters():
            p.add_(0.3 * torch.randn(p.shape))
        if relating is not None and slow is not None:
            slow.load_state_dict(relating.state_dict())
    for module in method.modules() if fixed_statistics else []:
        if isinstance(module, _BatchNorm):
            module.eval()
    if isinstance(method, SimSiam) and fixed_statistics:
        method.recentre = None
    method(batch(method, seed=9, ids=IDS + N), CONTEXT)  # an earlier step of other images
    method.relation.after_step()
    method.zero_grad()
    return method


def batch(method: Method, seed: int = 0, ids: Tensor = IDS, order: Tensor = IDS) -> Batch:
    source = torch.Generator().manual_seed(seed)
    both = torch.randn(2, N, 3, 2, 2, generator=source, dtype=torch.float64)[:, order]
    labels = order % 3 if method.needs_labels else None
    return Batch((both[0], both[1])[: method.views_per_image], ids[order], labels)


def view() -> Tensor:
    return torch.randn(N, 3, 2, 2, generator=torch.Generator().manual_seed(5)).double()


def queries_of(method: Method, images: Tensor) -> Tensor:
    """(S, N, P), what the loss compares with keys."""
    if isinstance(method, SimSiam):
        return method.predict(method.project(images, SAMPLES, CONTEXT, 1))
    assert isinstance(method, MoCoV2 | MoCoV3)
    method.key(images, SAMPLES, CONTEXT, 1)
    return method.query(images, SAMPLES, CONTEXT, 1)


def step(method: Method) -> None:
    optimizer = build_optimizer(SgdConfig(weight_decay=0.0), method.parameter_groups())
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    torch.autograd.backward(method(batch(method), CONTEXT))
    optimizer.step()
    method.after_step(Elapsed(0.5, 1))


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def eval_identity(cell: Cell) -> None:
    """1. Evaluated, the method is the one without relation; in training stream 0 is plain."""
    related, plain = build(cell), build(cell, NoRelationConfig())
    step(related)
    state = snapshot(related)
    plain.load_state_dict({key: state[key] for key in plain.state_dict()})
    assert related.backbone.state_dict().keys() == plain.backbone.state_dict().keys()
    related.eval(), plain.eval()
    assert torch.equal(related.backbone(view()), plain.backbone(view()))
    assert queries_of(related, view()).shape == (1, N, OUT)
    assert torch.equal(queries_of(related, view()), queries_of(plain, view()))
    given = batch(related)
    assert torch.equal(related(given, CONTEXT), plain(given, CONTEXT))
    related = build(cell, fixed_statistics=True)
    plain = build(cell, NoRelationConfig(), fixed_statistics=True)
    streams, expected = queries_of(related, view()), queries_of(plain, view())
    assert len(streams) == 1 + related.relation.rules.relates_queries
    torch.testing.assert_close(streams[0], expected[0], rtol=1e-12, atol=1e-13)


def order_of_the_batch(cell: Cell) -> None:
    """2. The loss does not depend on it, unless dropout acts."""
    order = torch.tensor([3, 7, 0, 4, 6, 1, 2, 5])
    for dropout in (0.0, 0.5):
        method = build(cell, one_group(cell, dropout=dropout))
        losses = []
        for given in (batch(method), batch(method, order=order)):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                losses.append(method(given, CONTEXT).item())
        difference = abs(losses[0] - losses[1])
        assert difference < 1e-12 if dropout == 0 or not has(cell, "dropout") else difference > 1e-7


def gradient_between_samples(cell: Cell) -> None:
    """3. None in the plain stream; in the related one inside a group, where samples meet at all."""
    method = build(cell, fixed_statistics=True)
    images = view().requires_grad_()
    queries = queries_of(method, images)
    side = torch.randn(OUT, generator=torch.Generator().manual_seed(1)).double()
    group = CONTEXT.permutation("groups/query/1", N).argsort() // GROUP
    for stream in range(len(queries)):
        reached = torch.zeros(N, N, dtype=torch.bool)
        for row in range(N):
            [found] = torch.autograd.grad(queries[stream, row] @ side, images, retain_graph=True)
            reached[row] = found.flatten(1).abs().amax(dim=1) > 0
        mixes = stream == 1 and cell.variant in MIXING
        expected = group[:, None] == group if mixes else torch.eye(N, dtype=torch.bool)
        assert torch.equal(reached, expected)


class Identity(nn.Module):
    def forward(self, values: Tensor, *_: Any, **__: Any) -> Tensor:
        return values


def copy_parity(cell: Cell) -> None:
    """4. With the module replaced by a copy the sum over all pairs is so many times the loss."""
    plain, copied = build(cell, NoRelationConfig()), build(cell, config_of(cell, reduction="sum"))
    copied.relation.relating = Identity()
    if copied.relation.slow_relating is not None:
        copied.relation.slow_relating = Identity()
    if isinstance(copied, SimSiam):
        copied.recentre = None
    if isinstance(copied, MoCoV2) and len(copied.queues) == 2:
        copied.queues[1].load_state_dict(copied.queues[0].state_dict())
    rules: StreamRules = copied.relation.rules
    times = sum(map(sum, rules.weights))
    expected = times * plain(batch(plain), CONTEXT)
    torch.testing.assert_close(copied(batch(copied), CONTEXT), expected, rtol=1e-9, atol=1e-12)


def sum_over_pairs(cell: Cell) -> None:
    """5. The loss is the mean over the pairs of streams (that of V1 is recorded: tests/parity)."""
    one_pair = [((1.0, 0.0), (0.0, 0.0)), ((0.0, 1.0), (0.0, 0.0))]
    one_pair += [((0.0, 0.0), (1.0, 0.0)), ((0.0, 0.0), (0.0, 1.0))]
    used = one_pair[:2] if config_of(cell).pairs == "plain_queries" else one_pair
    # SimSiam deals the groups of keys where no query is related
    configs = [one_group(cell), *(one_group(cell, pairs=pairs) for pairs in used)]
    losses = []
    for config in configs:
        method = build(cell, config, fixed_statistics=True)
        losses.append(method(batch(method), CONTEXT).detach())
    torch.testing.assert_close(losses[0], torch.stack(losses[1:]).mean(), rtol=1e-9, atol=1e-12)


def parameter_policy(cell: Cell) -> None:
    """6. What trains, what follows, what stays; and the optimizer has each once."""
    for policy in ("ema", "shared", "frozen"):
        method = build(cell, config_of(cell, parameters=policy))
        before = snapshot(method)
        step(method)
        after = method.state_dict()
        given = [id(p) for group in method.parameter_groups() for _, p in group.parameters]
        is_slow = policy == "ema" and method.momentum is not None
        for key, p in method.named_parameters():
            if key.startswith("relation.relating."):
                assert p.requires_grad == (policy != "frozen")
                assert given.count(id(p)) == int(p.requires_grad)
                assert p.requires_grad or torch.equal(after[key], before[key])
                # what BatchNorm takes back has a gradient of rounding errors
                is_large = p.grad is not None and bool(p.grad.abs().max() > 1e-8)
                assert not (is_large and torch.equal(after[key], before[key])), key
            if "slow_" in key:
                assert p.grad is None
                fast = after[key.replace("slow_", "")]
                torch.testing.assert_close(after[key], 0.9 * before[key] + 0.1 * fast)
        assert any(key.startswith("relation.slow_relating.") for key in after) == is_slow


def queue_law(cell: Cell) -> None:
    """7. A step writes the plain keys, and the related ones into a queue of their own."""
    method = build(cell)
    assert isinstance(method, MoCoV2)
    keys = method.key(batch(method).views[1], SAMPLES, CONTEXT, 2)
    step(method)
    assert len(keys) == len(method.queues) == 2
    for number, stream in enumerate(keys):
        queue = method.queue(number)
        assert int(queue.get_buffer("pointer")) == N
        torch.testing.assert_close(queue.keys[:N].double(), stream)
        torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones_like(queue.keys[:, 0]))
        assert torch.equal(queue.image_ids[:N], IDS)


def stop_gradient(cell: Cell) -> None:
    """8. Without predictions nothing has a gradient, and a relation without them is not trained."""
    method = build(cell)
    assert isinstance(method, SimSiam)
    loss = method(batch(method), CONTEXT)
    assert -1 <= loss.item() <= 1 and loss.requires_grad
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method, "predict", lambda z: z.detach())
        assert not method(batch(method), CONTEXT).requires_grad
    targets = build(cell, config_of(cell, pairs="plain_queries"))
    assert not any(p.requires_grad for p in targets.relation.parameters())


def graph_laws(cell: Cell) -> None:
    """9. At most K weights that sum to 1; a small batch leaves K; the graph is symmetric."""
    method = build(cell, config_of(cell, top_k=3, context="local"))
    module = method.relation.relating
    assert isinstance(module, BGFormer)
    rows = torch.randn(1, N, OUT, generator=torch.Generator().manual_seed(2)).double()
    for block in module.blocks:
        visual: Any = block.visual
        weights = visual.weights(rows[:, None], rows[:, None])
        assert int((weights > 0).sum(dim=3).max()) == 3
        torch.testing.assert_close(weights.sum(dim=3), torch.ones_like(weights.sum(dim=3)))
        visual.weights(rows[:, None, :2], rows[:, None, :2])
        assert visual.top_k == 3
    beside = None
    if (around := method.relation.surroundings) is not None:
        around.observe(rows[0], SAMPLES, "key", 1)
        around.observe(rows[0], SAMPLES, "query", 1)
        beside = around.beside(rows[0], SAMPLES, "query", 1)
    edges = module.edges(rows, None, beside)
    assert edges is None or torch.equal(edges, edges.transpose(1, 2))


def isolation(cell: Cell) -> None:
    """10. Another group's images change no bit of a row, nor does the other view."""
    method = build(cell, fixed_statistics=True)
    group = CONTEXT.permutation("groups/query/1", N).argsort() // GROUP
    changed = torch.where((group == 1)[:, None, None, None], -view(), view())
    before, after = (queries_of(method, images) for images in (view(), changed))
    assert torch.equal(before[:, group == 0], after[:, group == 0])
    assert not torch.equal(before[:, group == 1], after[:, group == 1])
    first, other = batch(method), batch(method, seed=1)
    seen: list[Tensor] = []
    name = "project" if isinstance(method, SimSiam) else "query"
    query: Any = getattr(method, name)

    def recorded(images: Tensor, samples: Samples, context: StepContext, number: int) -> Tensor:
        streams: Tensor = query(images, samples, context, number)
        if number == 1:
            seen.append(streams.detach().clone())
        return streams

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method, name, recorded)
        method(first, CONTEXT)
        method(Batch((first.views[0], other.views[1]), IDS), CONTEXT)
    assert torch.equal(seen[0], seen[1])


INVARIANTS: dict[int, Callable[[Cell], None]] = {
    1: eval_identity,
    2: order_of_the_batch,
    3: gradient_between_samples,
    4: copy_parity,
    5: sum_over_pairs,
    6: parameter_policy,
    7: queue_law,
    8: stop_gradient,
    9: graph_laws,
    10: isolation,
}


def says_nothing(number: int, cell: Cell) -> str:
    """Why an invariant says nothing about a cell; empty where it does."""
    if number == 2 and "foreign" in cell.variant:
        return "which row of the other batch is not seen depends on the place in the batch"
    if number == 6 and not has(cell, "parameters"):
        return "the relation has no parameters"
    if number == 7 and cell.method != "moco_v2":
        return "the method has no queue"
    if number == 8 and cell.method != "simsiam":
        return "the method has no stop-gradient"
    if number == 9 and cell.relation != "bgformer":
        return "the relation has no graph"
    if number == 10 and cell.variant == "bgformer, clusters":
        return "clusters share the rows of the whole batch among their centres"
    return ""


TABLE = [
    (number, cell) for number in INVARIANTS for cell in CELLS if not says_nothing(number, cell)
]


@pytest.mark.parametrize(
    ("number", "cell"), TABLE, ids=[f"{number}-{'-'.join(cell)}" for number, cell in TABLE]
)
def test_it_holds(number: int, cell: Cell) -> None:
    INVARIANTS[number](cell)


@dataclass(frozen=True, kw_only=True)
class Keys:
    """A config with a relation in it."""

    relation: RelationConfig = field(default_factory=NoRelationConfig)


@pytest.mark.parametrize(("name", "place"), REFUSED)
def test_a_place_that_a_relation_does_not_have_is_refused(name: str, place: str) -> None:
    with pytest.raises(ConfigError, match=r"^relation\.insert_at: "):
        parse_config(Keys, {}, [f"relation.name={name}", f"relation.insert_at={place}"])


def test_the_table_leaves_no_relation_no_place_and_no_method_out() -> None:
    assert {cell.relation for cell in CELLS} | {"none"} == set(RELATIONS)
    assert {cell.place for cell in CELLS} == set(PLACES)
    assert {cell.method for cell in CELLS} == set(METHODS)
    there = {(cell.relation, cell.place) for cell in CELLS}
    assert there | set(REFUSED) == {(name, place) for name in RELATIONS for place in PLACES}
    assert {number for number, _ in TABLE} == set(range(1, 11))
