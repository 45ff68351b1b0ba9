"""Tests of ssl_bf.relations.batchformer.

Wherever gradients are taken, the output meets a random projection first: LayerNorm makes its
plain sum a constant at initialisation, whose gradient proves nothing.
"""

from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from linear_eval.system.errors import InputError
from ssl_bf.keyed_random import StepContext
from ssl_bf.layers.batch_transformer_layer import BatchTransformerLayer
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.relations.batchformer import BatchFormerConfig, BatchTransformer
from ssl_bf.relations.surroundings import Samples

N, D = 12, 8
SAMPLES = Samples(torch.arange(N))
GROUP = 4


def transformer(
    group: int | Literal["local"] = "local", dropout: float = 0.0, layers: int = 1
) -> BatchTransformer:
    """Float64, and away from the special values of the initialisation."""
    with initial_values(0, "relation"):
        module = BatchTransformer(
            D, layers=layers, heads=2, feedforward_width=12, dropout=dropout, group=group
        ).double()
        for p in module.parameters():
            with torch.no_grad():
                p.add_(0.1 * torch.randn(p.shape))
    return module


def framework_encoder(module: BatchTransformer, dropout: float = 0.0) -> nn.TransformerEncoder:
    """The framework's encoder with the same parameters."""
    layer = nn.TransformerEncoderLayer(D, 2, 12, dropout, batch_first=True)
    encoder = nn.TransformerEncoder(layer, len(module.encoder_layers), enable_nested_tensor=False)
    encoder = encoder.double()
    state = module.state_dict()
    encoder.load_state_dict({k.removeprefix("encoder_"): v for k, v in state.items()})
    return encoder


def randn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def some_order(seed: int = 7) -> Tensor:
    return torch.randperm(N, generator=torch.Generator().manual_seed(seed))


def cross_gradients(module: BatchTransformer, order: Tensor | None, row: int) -> list[float]:
    """Largest gradient of a random projection of one output row with respect to each input row."""
    x = randn(N, D).requires_grad_()
    out = module(x, order, dropout=False)
    (gradient,) = torch.autograd.grad((out[row] * randn(D, seed=1)).sum(), x)
    sizes: list[float] = gradient.abs().amax(dim=1).tolist()
    return sizes


@pytest.mark.parametrize("layers", [1, 3])
def test_the_local_context_equals_the_frameworks_encoder_over_the_batch(layers: int) -> None:
    module = transformer(layers=layers)
    encoder = framework_encoder(module)
    ours, theirs = randn(N, D).requires_grad_(), randn(N, D).requires_grad_()
    out = module(ours, None, dropout=True)
    expected = encoder(theirs[None])[0]
    torch.testing.assert_close(out, expected)
    projection = randn(N, D, seed=1)
    torch.autograd.backward([(out * projection).sum(), (expected * projection).sum()])
    torch.testing.assert_close(ours.grad, theirs.grad)
    for name, p in module.named_parameters():
        torch.testing.assert_close(
            p.grad, encoder.get_parameter(name.removeprefix("encoder_")).grad
        )


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("order", [None, some_order()])
def test_groups_equal_the_frameworks_encoder_on_each_group(
    layers: int, order: Tensor | None
) -> None:
    module = transformer(group=GROUP, layers=layers)
    encoder = framework_encoder(module)
    x = randn(N, D)
    out = module(x, order, dropout=True)
    members = torch.arange(N) if order is None else order
    for start in range(0, N, GROUP):
        rows = members[start : start + GROUP]
        torch.testing.assert_close(out[rows], encoder(x[rows][None])[0])


def test_dropout_acts_in_the_four_published_places(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[tuple[str, float]] = []
    dropout, attention = functional.dropout, functional.scaled_dot_product_attention

    def recording_dropout(x: Tensor, p: float) -> Tensor:
        rates.append((f"{x.shape[-1]} wide", p))
        return dropout(x, p)

    def recording_attention(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: None, dropout_p: float
    ) -> Tensor:
        rates.append(("attention", dropout_p))
        return attention(query, key, value, attn_mask=attn_mask, dropout_p=dropout_p)

    monkeypatch.setattr(functional, "dropout", recording_dropout)
    monkeypatch.setattr(functional, "scaled_dot_product_attention", recording_attention)
    module = transformer(dropout=0.3)
    places = ["attention", "8 wide", "12 wide", "8 wide"]
    module(randn(N, D), None, dropout=True)
    assert rates == [(place, 0.3) for place in places]
    rates.clear()
    module(randn(N, D), None, dropout=False)
    assert rates == [(place, 0.0) for place in places]


@pytest.mark.parametrize("training", [True, False])
def test_without_dropout_it_is_deterministic_in_train_mode_too(training: bool) -> None:
    module = transformer(dropout=0.5).train(training)
    x = randn(N, D)
    assert torch.equal(module(x, None, dropout=False), module(x, None, dropout=False))
    expected = transformer(dropout=0.0)(x, None, dropout=True)
    torch.testing.assert_close(module(x, None, dropout=False), expected)


def permutation_error(module: BatchTransformer, *, dropout: bool) -> float:
    """Largest deviation from equivariance, with the same seed on both sides."""
    x, permutation = randn(N, D), some_order(3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = module(x, None, dropout=dropout)
        torch.manual_seed(0)
        permuted = module(x[permutation], None, dropout=dropout)
    error: float = (permuted - out[permutation]).abs().max().item()
    return error


def test_permuting_the_batch_permutes_the_output() -> None:
    assert permutation_error(transformer(dropout=0.5), dropout=False) < 1e-12


def test_with_dropout_the_batch_order_matters_so_dropout_is_really_there() -> None:
    assert permutation_error(transformer(dropout=0.5), dropout=True) > 0.1


def test_neither_the_order_of_groups_nor_that_inside_a_group_matters() -> None:
    module, x, order = transformer(group=GROUP), randn(N, D), some_order()
    out = module(x, order, dropout=False)
    groups = order.reshape(-1, GROUP)
    for other in (groups.flip(0), groups.flip(1), groups[:, [2, 0, 3, 1]]):
        torch.testing.assert_close(module(x, other.flatten(), dropout=False), out)
    regrouped = module(x, groups.T.flatten(), dropout=False)
    assert (regrouped - out).abs().max() > 1e-2


def test_every_row_sees_all_rows_of_the_local_context() -> None:
    for row in range(N):
        assert min(cross_gradients(transformer(), None, row)) > 1e-4


@pytest.mark.parametrize("order", [None, some_order()])
def test_a_row_sees_its_group_and_nothing_else(order: Tensor | None) -> None:
    module = transformer(group=GROUP)
    place = torch.arange(N) if order is None else order.argsort()
    for row in range(N):
        sizes = cross_gradients(module, order, row)
        for other in range(N):
            if place[row] // GROUP == place[other] // GROUP:
                assert sizes[other] > 1e-4
            else:
                assert sizes[other] == 0


@pytest.mark.parametrize("group", [1, 2, 3, 6])
def test_another_groups_samples_change_no_bit(group: int) -> None:
    module, x = transformer(group=group), randn(N, D)
    changed = torch.cat([x[:group], randn(N - group, D, seed=5)])
    before, after = (module(rows, None, dropout=False) for rows in (x, changed))
    assert torch.equal(before[:group], after[:group])
    assert not torch.isclose(before[group:], after[group:]).any(dim=1).all()


def test_the_sum_of_the_output_would_prove_nothing() -> None:
    with initial_values(0, "relation"):
        fresh = BatchTransformer(
            D, layers=1, heads=2, feedforward_width=D, dropout=0.0, group="local"
        ).double()
    x = randn(N, D).requires_grad_()
    (vain,) = torch.autograd.grad(fresh(x, None, dropout=False).sum(), x)
    assert vain.abs().max() < 1e-12


def test_a_batch_of_one_is_legal_and_carries_no_relation() -> None:
    x = randn(1, D)
    module = transformer()
    torch.testing.assert_close(module(x, None, dropout=False), framework_encoder(module)(x))


@pytest.mark.parametrize(("width", "parameters"), [(128, 99_584), (256, 395_776)])
def test_the_published_sizes_have_6_c_squared_plus_10_c_parameters(
    width: int, parameters: int
) -> None:
    relation = BatchFormerConfig().build(2048, width, has_key_side=False)
    assert sum(p.numel() for p in relation.parameters()) == parameters


def test_the_configuration_reaches_the_module() -> None:
    config = BatchFormerConfig(
        insert_at="backbone", layers=3, heads=4, feedforward=0.5, dropout=0.2, context=6
    )
    relation = config.build(16, 8, has_key_side=True)
    module = relation.relating
    assert isinstance(module, BatchTransformer)
    assert (module.group, len(module.encoder_layers), relation.context) == (6, 3, 6)
    for layer in module.encoder_layers:
        assert isinstance(layer, BatchTransformerLayer)
        assert (layer.self_attn.num_heads, layer.dropout) == (4, 0.2)
        assert layer.get_parameter("linear1.weight").shape == (8, 16)
    assert relation.may_be_constant
    assert relation.drops_keys
    assert relation.rules is config
    off = BatchFormerConfig(key_dropout="off").build(16, 8, has_key_side=True)
    assert not off.drops_keys


def test_the_relation_deals_its_groups_by_the_step() -> None:
    with initial_values(0, "relation"):
        config = BatchFormerConfig(dropout=0.0, context=GROUP, pairs="all")
        relation = config.build(D, D, has_key_side=True).double()
    assert isinstance(relation.relating, BatchTransformer)
    x, context = randn(N, D), StepContext(seed=1, step=5)
    order = context.permutation("groups/query/2", N)
    expected = relation.relating(x, order, dropout=False)
    torch.testing.assert_close(relation.queries(x, SAMPLES, context, 2)[1], expected)
    keys = relation.keys(x, SAMPLES, context, 2)[1]
    order = context.permutation("groups/key/2", N)
    torch.testing.assert_close(keys, relation.relating(x, order, dropout=False))
    assert (keys - expected).abs().max() > 1e-3


def test_heads_that_do_not_divide_the_width_are_named_with_it() -> None:
    with pytest.raises(InputError, match=r"relation\.heads: 3 heads do not divide the width 8"):
        BatchFormerConfig(heads=3).build(16, 8, has_key_side=True)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"layers": 0}, "layers and heads: must be >= 1, got 0, 4"),
        ({"heads": 0}, "layers and heads: must be >= 1, got 1, 0"),
        ({"dropout": 1.0}, r"dropout: must lie in \[0, 1\), got 1\.0"),
        ({"feedforward": 0.0}, r"feedforward: must be > 0, got 0\.0"),
        ({"context": 1}, "context: "),
    ],
)
def test_values_without_meaning_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchFormerConfig(**keys)
