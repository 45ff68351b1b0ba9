"""Tests of ssl_bf.relations.controls."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_bf.keyed_random import StepContext
from ssl_bf.layers.self_attention import UniformAttention
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.relations.batchformer import BatchFormerConfig
from ssl_bf.relations.controls import (
    CopyConfig,
    DropoutOnlyConfig,
    SelfOnlyConfig,
    UniformConfig,
)
from ssl_bf.relations.relation import Relation
from ssl_bf.relations.surroundings import Samples

N, D = 10, 8
SAMPLES = Samples(torch.arange(N))
Config = CopyConfig | DropoutOnlyConfig | SelfOnlyConfig | UniformConfig | BatchFormerConfig


def build(config: Config) -> Relation:
    with initial_values(0, "relation"):
        return config.build(D, D, has_key_side=True).double()


def features(rows: int = N, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, D, generator=generator, dtype=torch.float64)


def related(relation: Relation, x: Tensor, side: str = "queries") -> Tensor:
    streams: Tensor = getattr(relation, side)(x, SAMPLES, StepContext(), 1)
    assert torch.equal(streams[0], x)
    return streams[1]


@pytest.mark.parametrize("side", ["queries", "keys"])
def test_copy_doubles_the_batch_and_adds_nothing(side: str) -> None:
    relation = build(CopyConfig(pairs="all"))
    x = features()
    assert torch.equal(related(relation, x, side), x)
    assert dict(relation.state_dict()) == {}


def test_dropout_only_is_the_frameworks_dropout_of_the_plain_stream() -> None:
    relation = build(DropoutOnlyConfig(dropout=0.25))
    x = features(500)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = related(relation, x)
        torch.manual_seed(0)
        torch.testing.assert_close(out, torch.nn.functional.dropout(x, 0.25))
    dropped = out == 0
    torch.testing.assert_close(out[~dropped], x[~dropped] / 0.75)
    assert dropped.double().mean().item() == pytest.approx(0.25, abs=0.03)
    assert dict(relation.state_dict()) == {}


def test_dropout_only_never_lets_rows_meet() -> None:
    relation = build(DropoutOnlyConfig())
    x = features().requires_grad_()
    (gradient,) = torch.autograd.grad(related(relation, x)[3].sum(), x)
    assert gradient[3].abs().max() > 0
    assert gradient[[i for i in range(N) if i != 3]].abs().max() == 0


@pytest.mark.parametrize("config", [DropoutOnlyConfig, SelfOnlyConfig])
def test_key_dropout_off_reaches_the_controls_too(
    config: type[DropoutOnlyConfig | SelfOnlyConfig],
) -> None:
    x = features()
    off = build(config(pairs="all", key_dropout="off"))
    assert torch.equal(related(off, x, "keys"), related(off, x, "keys"))
    on = build(config(pairs="all", key_dropout="on"))
    assert not torch.equal(related(on, x, "keys"), related(on, x, "keys"))


def test_self_only_equals_batchformer_on_each_sample_by_itself() -> None:
    relation = build(SelfOnlyConfig(dropout=0.0, layers=2))
    batchformer = build(BatchFormerConfig(dropout=0.0, layers=2, context="local"))
    batchformer.load_state_dict(relation.state_dict())
    x = features()
    alone = [related(batchformer, x[i : i + 1]) for i in range(N)]
    torch.testing.assert_close(related(relation, x), torch.cat(alone))
    assert not torch.allclose(related(relation, x), related(batchformer, x), atol=1e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_uniform_equals_batchformer_that_cannot_tell_queries_and_keys(dropout: float) -> None:
    uniform = build(UniformConfig(dropout=dropout, layers=2, context=5))
    batchformer = build(BatchFormerConfig(dropout=dropout, layers=2, context=5))
    batchformer.load_state_dict(uniform.state_dict())
    for name, p in batchformer.named_parameters():
        if "in_proj" in name:
            p.data[: 2 * D] = 0  # all attention is 1/g then
    x = features()
    streams = []
    for relation in (uniform, batchformer):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            streams.append(related(relation, x))
    torch.testing.assert_close(*streams)


def test_uniform_averages_the_group() -> None:
    x = features()
    attention = UniformAttention(D, 2).double()
    mean = torch.nn.functional.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    expected = attention.out_proj(mean[:, 2 * D :].mean(dim=0))
    torch.testing.assert_close(attention(x[None], 0.0)[0], expected.expand(N, D))


@pytest.mark.parametrize("control", [SelfOnlyConfig, UniformConfig])
def test_a_control_starts_with_the_very_parameters_of_batchformer(
    control: type[SelfOnlyConfig | UniformConfig],
) -> None:
    torch.testing.assert_close(
        dict(build(control(pairs="all")).state_dict()),
        dict(build(BatchFormerConfig(pairs="all")).state_dict()),
        rtol=0,
        atol=0,
    )


def test_only_a_stream_that_could_become_constant_asks_to_be_recentred() -> None:
    assert not build(CopyConfig()).may_be_constant
    for config in (DropoutOnlyConfig(), SelfOnlyConfig(), UniformConfig(), BatchFormerConfig()):
        assert build(config).may_be_constant


@pytest.mark.parametrize(
    ("config", "keys", "message"),
    [
        (DropoutOnlyConfig, {"dropout": 1.0}, r"dropout: must lie in \[0, 1\), got 1\.0"),
        (DropoutOnlyConfig, {"dropout": -0.1}, "dropout: "),
        (SelfOnlyConfig, {"heads": 0}, "layers and heads: "),
        (UniformConfig, {"context": 1}, "context: a group needs at least 2 rows, got 1"),
    ],
)
def test_values_without_meaning_are_refused(
    config: type[Config], keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        config(**keys)
