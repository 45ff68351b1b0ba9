"""Tests of ssl_bf.relations.relation."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from linear_eval.strict_config.reader import ConfigError, parse_config
from ssl_bf.keyed_random import StepContext
from ssl_bf.parts.slow_copy import SlowCopies
from ssl_bf.relations import RelationConfig
from ssl_bf.relations.batchformer import BatchFormerConfig
from ssl_bf.relations.keys import Context, OnOff, Policy
from ssl_bf.relations.no_relation import NoRelationConfig
from ssl_bf.relations.relation import Relation
from ssl_bf.relations.streams import Pairs
from ssl_bf.relations.surroundings import Samples
from ssl_bf.relations.two_streams import TrainedRelationConfig, TwoStreamConfig

N, D = 12, 4
SAMPLES = Samples(torch.arange(N))
POLICIES: list[Literal["ema", "shared", "frozen"]] = ["ema", "shared", "frozen"]
Call = tuple[nn.Module, Tensor | None, bool]


@dataclass(frozen=True, kw_only=True)
class Keys:
    """A config with a relation in it."""

    relation: RelationConfig = field(default_factory=NoRelationConfig)


class Recorder(nn.Module):
    """A relating module that writes down how it is called; its copies write into the same list."""

    calls: list[Call]

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((D,), 2.0, dtype=torch.float64))
        object.__setattr__(self, "calls", [])

    def __deepcopy__(self, memo: dict[int, Any]) -> "Recorder":
        twin = Recorder()
        object.__setattr__(twin, "calls", self.calls)
        return twin

    def forward(self, features: Tensor, order: Tensor | None, *, dropout: bool) -> Tensor:
        self.calls.append((self, order, dropout))
        return nn.functional.dropout(features * self.scale, 0.5 if dropout else 0.0)


@dataclass(frozen=True, kw_only=True)
class RecorderConfig(TrainedRelationConfig):
    """With every key that a relation may have."""

    name: Literal["recorder"] = "recorder"
    parameters: Policy = "shared"
    key_dropout: OnOff = "on"
    context: Context = "local"

    def relating(self, width: int) -> Recorder:
        assert width == D
        return Recorder()


def build(
    pairs: Pairs = "all", *, has_key_side: bool = True, **keys: Any
) -> tuple[Relation, Recorder]:
    relation = RecorderConfig(pairs=pairs, **keys).build(D, D, has_key_side=has_key_side)
    assert isinstance(relation.relating, Recorder)
    return relation, relation.relating


def features() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N, D, generator=generator, dtype=torch.float64)


def orders(recorder: Recorder) -> list[list[int]]:
    found = [order.tolist() for _, order, _ in recorder.calls if order is not None]
    assert len(found) == len(recorder.calls)
    return found


@pytest.mark.parametrize("side", ["queries", "keys"])
def test_stream_0_is_the_plain_features_to_the_bit(side: str) -> None:
    relation, _ = build()
    x = features()
    streams = getattr(relation, side)(x, Samples(torch.arange(len(x))), StepContext(), 1)
    assert streams.shape == (2, N, D)
    assert torch.equal(streams[0], x)
    assert not torch.equal(streams[1], x)


@pytest.mark.parametrize("side", ["queries", "keys"])
def test_in_evaluation_only_the_plain_stream_exists(side: str) -> None:
    relation, recorder = build()
    x = features()
    streams = getattr(relation.eval(), side)(x, Samples(torch.arange(len(x))), StepContext(), 1)
    assert streams.shape == (1, N, D)
    assert torch.equal(streams[0], x)
    assert recorder.calls == []


@pytest.mark.parametrize(
    ("pairs", "num_query_streams", "num_key_streams"),
    [("plain_keys", 2, 1), ("plain_queries", 1, 2), ("all", 2, 2), ("related", 2, 2)],
)
def test_a_stream_that_no_pair_uses_is_not_made(
    pairs: Pairs, num_query_streams: int, num_key_streams: int
) -> None:
    relation, recorder = build(pairs)
    assert len(relation.queries(features(), SAMPLES, StepContext(), 1)) == num_query_streams
    assert len(relation.keys(features(), SAMPLES, StepContext(), 1)) == num_key_streams
    assert len(recorder.calls) == num_query_streams + num_key_streams - 2


@pytest.mark.parametrize("parameters", POLICIES)
def test_the_policy_says_whose_parameters_make_the_keys(
    parameters: Literal["ema", "shared", "frozen"],
) -> None:
    relation, recorder = build(parameters=parameters)
    relation.queries(features(), SAMPLES, StepContext(), 1)
    relation.keys(features(), SAMPLES, StepContext(), 1)
    (of_queries, _, _), (of_keys, _, _) = recorder.calls
    assert of_queries is relation.relating
    assert (of_keys is of_queries) == (parameters != "ema")
    assert of_keys is (relation.slow_relating if parameters == "ema" else relation.relating)


@pytest.mark.parametrize("parameters", POLICIES)
def test_the_policy_says_what_trains(parameters: Literal["ema", "shared", "frozen"]) -> None:
    relation, _ = build(parameters=parameters)
    trained = [name for name, p in relation.named_parameters() if p.requires_grad]
    assert trained == ([] if parameters == "frozen" else ["relating.scale"])
    slow = ["slow_relating.scale"] if parameters == "ema" else []
    assert sorted(relation.state_dict()) == ["relating.scale", *slow]


@pytest.mark.parametrize("parameters", POLICIES)
def test_a_module_that_no_query_passes_is_not_trained(
    parameters: Literal["ema", "shared", "frozen"],
) -> None:
    relation, _ = build("plain_queries", parameters=parameters)
    assert not any(p.requires_grad for p in relation.parameters())


def test_only_ema_keys_that_are_related_have_a_slow_copy_to_move() -> None:
    relation, recorder = build(parameters="ema")
    assert relation.slow_pairs() == [(relation.slow_relating, recorder)]
    assert build(parameters="shared")[0].slow_pairs() == []
    assert build(parameters="frozen")[0].slow_pairs() == []
    assert build(parameters="ema", has_key_side=False)[0].slow_pairs() == []
    assert build("plain_keys", parameters="ema")[0].slow_pairs() == []


def test_the_slow_copy_follows_with_its_momentum() -> None:
    relation, recorder = build(parameters="ema")
    with torch.no_grad():
        recorder.scale.copy_(torch.arange(4.0))
    SlowCopies(relation.slow_pairs()).move(0.75)
    slow = relation.get_parameter("slow_relating.scale")
    torch.testing.assert_close(slow.detach(), 0.75 * 2 + 0.25 * torch.arange(4.0).double())


def test_the_key_side_is_regrouped_independently_of_the_query_side() -> None:
    relation, recorder = build(context=3)
    for view in (1, 2):
        relation.queries(features(), SAMPLES, StepContext(), view)
        relation.keys(features(), SAMPLES, StepContext(), view)
    found = orders(recorder)
    assert all(sorted(order) == list(range(N)) for order in found)
    assert len({tuple(order) for order in found}) == 4


def test_groups_depend_on_seed_step_and_shard_and_on_nothing_else() -> None:
    relation, recorder = build(context=3)
    first = StepContext(seed=1, step=2, shard=3)
    others = [StepContext(1, 2, 4), StepContext(1, 3, 3), StepContext(2, 2, 3)]
    for context in [first, *others, first]:
        relation.queries(features(), SAMPLES, context, 1)
    found = orders(recorder)
    assert found[0] == found[-1]
    assert len({tuple(order) for order in found}) == 4


def test_the_local_context_keeps_the_rows_in_their_order() -> None:
    relation, recorder = build(context="local")
    relation.queries(features(), SAMPLES, StepContext(), 1)
    assert recorder.calls[0][1] is None


@pytest.mark.parametrize("key_dropout", ["on", "off"])
def test_key_dropout_off_makes_the_key_side_deterministic_in_training(key_dropout: OnOff) -> None:
    relation, recorder = build(key_dropout=key_dropout)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        keys = [relation.keys(features(), SAMPLES, StepContext(), 1) for _ in range(2)]
        queries = [relation.queries(features(), SAMPLES, StepContext(), 1) for _ in range(2)]
    assert torch.equal(keys[0], keys[1]) == (key_dropout == "off")
    assert not torch.equal(queries[0], queries[1])
    assert [dropout for _, _, dropout in recorder.calls] == [key_dropout == "on"] * 2 + [True] * 2


def test_queries_and_keys_drop_out_with_masks_of_their_own() -> None:
    relation, _ = build()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        query = relation.queries(features(), SAMPLES, StepContext(), 1)[1]
        key = relation.keys(features(), SAMPLES, StepContext(), 1)[1]
    assert not torch.equal(query == 0, key == 0)


def test_the_related_stream_has_the_type_of_the_features() -> None:
    class Widening(nn.Module):
        def forward(self, features: Tensor, order: Tensor | None, *, dropout: bool) -> Tensor:
            return features.float()

    relation = Relation(RecorderConfig(pairs="all"), Widening(), has_key_side=True)
    streams = relation.queries(features().bfloat16(), SAMPLES, StepContext(), 1)
    assert streams.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"lr_scale": 0.0}, r"lr_scale: must be > 0, got 0\.0"),
        ({"pairs": ((0.0, 0.0), (0.0, 0.0))}, "pairs: "),
    ],
)
def test_values_without_meaning_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecorderConfig(**keys)


def test_what_a_config_has_no_key_for_changes_nothing() -> None:
    config = TwoStreamConfig(name="some")
    assert (config.parameters, config.lr_scale, config.key_dropout) == ("shared", 1.0, "on")
    assert (config.context, config.title) == ("local", "with some")


@pytest.mark.parametrize(("place", "width"), [("backbone", 512), ("projection", 128)])
def test_the_module_is_as_wide_as_the_features_at_its_place(
    place: Literal["backbone", "projection"], width: int
) -> None:
    relation = BatchFormerConfig(insert_at=place).build(512, 128, has_key_side=True)
    assert relation.get_parameter("relating.encoder_layers.0.norm1.weight").shape == (width,)


@pytest.mark.parametrize(
    ("relation", "key"),
    [
        ("none", "insert_at=backbone"),
        *(("copy", key) for key in ("parameters=ema", "lr_scale=2", "key_dropout=on", "context=8")),
        *(("dropout_only", key) for key in ("parameters=shared", "lr_scale=2", "context=local")),
        ("self_only", "context=8"),
        ("batchformer", "top_k=16"),
    ],
)
def test_a_key_that_would_be_ignored_is_unknown(relation: str, key: str) -> None:
    name = key.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"^relation\.{name}: no such key"):
        parse_config(Keys, {}, [f"relation.name={relation}", f"relation.{key}"])
