"""What every relation keeps, taken from the union: a new member is tested without a word here."""

from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from ssl_bf.keyed_random import StepContext
from ssl_bf.methods.measurements import relation_values
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.relations import RelationConfig
from ssl_bf.relations.gate import Gated
from ssl_bf.relations.relation import Relation
from ssl_bf.relations.surroundings import Samples
from tests.unions import members_of, small

N, D, GROUP = 6, 4, 3
SAMPLES = Samples(torch.arange(N))

CONTEXT = StepContext(seed=1, step=3)
MEMBERS = members_of(RelationConfig)
# It needs a backbone around it: relations/test_batchformer_v2 has the same tests.
INSIDE = "batchformer_v2"
SMALL: dict[str, Any] = {"heads": 2, "context": GROUP, "top_k": 2, "dropout": 0.0, "pairs": "all"}
# Beside the defaults of each: name of a relation and the keys that make it another one.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in MEMBERS if name != INSIDE},
    "nearest_keys": ("nearest_keys", {"neighbours": 2, "memory": 8, "pairs": "plain_queries"}),
    "batchformer with neighbours": (
        "batchformer",
        {"context": "neighbours", "neighbours": 3, "memory": 8, "layers": 2},
    ),
    "bgformer with a teacher": ("bgformer", {"graph": "teacher_knn", "graph_neighbours": 1}),
    "bgformer with clusters": ("bgformer", {"graph": "cluster", "clusters": 3}),
    "bgformer of single rows": ("bgformer", {"graph": "instance", "visual_weight": 0.25}),
    "bgformer with graphnorm": ("bgformer", {"graph_norm": "graphnorm", "layers": 2}),
    "foreign in two layers": ("foreign", {"layers": 2}),
}
TRAINED = [
    variant
    for variant, (name, _) in VARIANTS.items()
    if "residual" in {field.name for field in fields(MEMBERS[name])}
]


def config_of(variant: str, **keys: Any) -> Any:
    name, of_variant = VARIANTS[variant]
    return small(MEMBERS[name], **SMALL | of_variant | keys)


def build(variant: str, **keys: Any) -> Relation:
    """In float64, away from the special values of the initialisation, with an earlier step."""
    with initial_values(0, "relation"):
        relation = config_of(variant, **keys).build(D, D, has_key_side=True).double()
        for p in relation.parameters():
            with torch.no_grad():
                p.add_(0.3 * torch.randn(p.shape))
    relation.make_room(N, 2)
    for side in (relation.keys, relation.queries):
        side(features(9), Samples(SAMPLES.image_ids + N), StepContext(), 1)
    relation.after_step()
    assert isinstance(relation, Relation)
    return relation


def features(seed: int = 0) -> Tensor:
    return torch.randn(N, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def related(
    relation: Relation,
    x: Tensor,
    *,
    samples: Samples = SAMPLES,
    context: StepContext = CONTEXT,
    order: Tensor | None = None,
) -> Tensor:
    """The related queries; where a teacher is asked, its rows are others, in the given order."""
    slow = features(4)
    relation.teach(slow if order is None else slow[order], samples, 1)
    return relation.queries(x, samples, context, 1)[-1]


@pytest.mark.parametrize("residual", ["published", "gate"])
@pytest.mark.parametrize("name", TRAINED)
def test_its_gradient_is_that_of_finite_differences(name: str, residual: str) -> None:
    relation = build(name, residual=residual)
    trained = {key: p for key, p in relation.named_parameters() if p.requires_grad}
    assert trained

    def stream(x: Tensor, *values: Tensor) -> Tensor:
        given = dict(zip(trained, values, strict=True))
        out: Tensor = functional_call(_Queries(relation), _prefixed(given), (x,))
        return out

    inputs = [features(), *(p.detach().clone() for p in trained.values())]
    assert torch.autograd.gradcheck(stream, [each.requires_grad_() for each in inputs])


class _Queries(torch.nn.Module):
    def __init__(self, relation: Relation) -> None:
        super().__init__()
        self.relation = relation

    def forward(self, x: Tensor) -> Tensor:
        return related(self.relation, x)


def _prefixed(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"relation.{name}": value for name, value in values.items()}


class _Alone(StepContext):
    """Groups are cut from the batch as it lies."""

    def permutation(self, purpose: str, n: int) -> Tensor:
        return torch.arange(n)


def equivariance_error(name: str, dropout: float) -> float:
    """Of rows that change places inside their groups, with the same seed on both sides."""
    relation, x = build(name, dropout=dropout), features()
    order = torch.tensor([2, 0, 1, 4, 5, 3])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = related(relation, x, context=_Alone())
        torch.manual_seed(0)
        permuted = related(
            relation, x[order], samples=Samples(order), context=_Alone(), order=order
        )
    error: float = (permuted - out[order]).abs().max().item()
    return error


PLACED = "foreign"  # which row of the other batch is not seen depends on the place


@pytest.mark.parametrize("name", [name for name in TRAINED if PLACED not in name])
def test_permuting_the_rows_permutes_the_output_unless_dropout_acts(name: str) -> None:
    assert equivariance_error(name, 0.0) < 1e-12
    assert equivariance_error(name, 0.5) > 0.05


@pytest.mark.parametrize("name", TRAINED)
def test_a_closed_gate_is_a_copy_to_the_bit_and_an_open_one_the_relation(name: str) -> None:
    gated, published = build(name, residual="gate"), build(name)
    assert isinstance(gated.relating, Gated)
    assert published.relating is not None
    gated.relating.relating.load_state_dict(published.relating.state_dict())
    gate, x = gated.relating.gate, features()
    for value, expected in ((0.0, x), (1.0, related(published, x))):
        gate.data.fill_(value)
        torch.testing.assert_close(related(gated, x), expected, rtol=0, atol=0)
    gate.data.fill_(0.25)
    between = x + 0.25 * (related(published, x) - x)
    torch.testing.assert_close(related(gated, x), between)
    assert relation_values(gated)["gate"] == 0.25
    assert "gate" not in relation_values(published)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("keys", [{"parameters": "frozen"}, {"pairs": "plain_queries"}])
def test_a_gate_that_could_never_open_is_refused(name: str, keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="^residual: with .* nothing would ever open the gate"):
        config_of(name, residual="gate", **keys)


@pytest.mark.parametrize("name", [name for name in MEMBERS if name not in ("none", INSIDE)])
def test_outside_its_share_of_training_there_is_no_second_stream(name: str) -> None:
    config = config_of(name, active=(0.25, 0.75), pairs=MEMBERS[name]().pairs)
    relation = config.build(D, D, has_key_side=True)
    relation.double().make_room(N, 2)
    streams = relation.queries if relation.rules.relates_queries else relation.keys
    for elapsed, count in ((0.0, 1), (0.2499, 1), (0.25, 2), (0.7499, 2), (0.75, 1), (0.99, 1)):
        context = StepContext(elapsed=elapsed)
        assert len(streams(features(), SAMPLES, context, 1)) == count


@pytest.mark.parametrize("name", [name for name in MEMBERS if name != "none"])
@pytest.mark.parametrize("active", [(0.5, 0.5), (0.6, 0.5), (-0.1, 1.0), (0.0, 1.1)])
def test_a_share_of_training_that_is_none_is_refused(
    name: str, active: tuple[float, float]
) -> None:
    with pytest.raises(ValueError, match=r"^active: must be \[start, end\] with 0 <= start < end"):
        MEMBERS[name](active=active)
