"""Tests of ssl_bf.layers.batch_norm; two processes are met in tests/end_to_end."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_bf.layers.batch_norm import (
    GroupedBatchNorm,
    SynchronisedBatchNorm,
    frozen_running_statistics,
    num_groups,
    set_batch_norm_mode,
)
from ssl_bf.parts.initial_values import initial_values

CHANNELS = 3
SHAPES = [(12, CHANNELS), (12, CHANNELS, 2, 4)]


def randn(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def filled(norm: nn.Module) -> nn.Module:
    """Float64 with values that no default equals."""
    norm = norm.double()
    for number, (_, tensor) in enumerate(norm.state_dict().items()):
        if tensor.dtype == torch.float64:
            tensor.copy_(0.5 + randn(CHANNELS, seed=100 + number).abs())
    return norm


def framework_norm(shape: tuple[int, ...], *, affine: bool = True) -> nn.Module:
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    return filled(kind(CHANNELS, affine=affine))


def network() -> nn.Sequential:
    """BatchNorm as the heads have it, with and without affine, at two depths."""
    outer = nn.BatchNorm1d(CHANNELS, eps=1e-3, momentum=0.3)
    outer.bias.requires_grad_(False)
    with initial_values(0, "network"):
        inner = nn.Sequential(nn.Linear(CHANNELS, CHANNELS), nn.BatchNorm1d(CHANNELS, affine=False))
        return nn.Sequential(nn.Linear(CHANNELS, CHANNELS), outer, inner).double()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize("affine", [True, False])
def test_groups_equal_separate_batch_norms(
    shape: tuple[int, ...], groups: int, affine: bool
) -> None:
    framework = framework_norm(shape, affine=affine)
    grouped = GroupedBatchNorm(CHANNELS, affine=affine).double()
    grouped.load_state_dict(framework.state_dict())
    grouped.groups = groups
    x, gradient = 5 + randn(*shape, seed=1), randn(*shape, seed=2)

    ours = x.clone().requires_grad_()
    out = grouped(ours)
    out.backward(gradient)
    theirs = x.clone().requires_grad_()
    separate = [copy.deepcopy(framework) for _ in range(groups)]
    parts = [norm(rows) for norm, rows in zip(separate, theirs.chunk(groups), strict=True)]
    torch.autograd.backward(torch.cat(parts), gradient)

    torch.testing.assert_close(out, torch.cat(parts))
    torch.testing.assert_close(ours.grad, theirs.grad)
    for name, parameter in grouped.named_parameters():
        gradients = [norm.get_parameter(name).grad for norm in separate]
        torch.testing.assert_close(parameter.grad, sum(g for g in gradients if g is not None))
    for name in ("running_mean", "running_var"):
        expected = torch.stack([norm.get_buffer(name) for norm in separate]).mean(0)
        torch.testing.assert_close(grouped.get_buffer(name), expected)
    assert grouped.num_batches_tracked == framework.get_buffer("num_batches_tracked") + 1


@pytest.mark.parametrize("kind", [GroupedBatchNorm, SynchronisedBatchNorm])
@pytest.mark.parametrize("shape", SHAPES)
def test_in_evaluation_it_is_the_frameworks_batch_norm(
    kind: type[GroupedBatchNorm | SynchronisedBatchNorm], shape: tuple[int, ...]
) -> None:
    framework = framework_norm(shape).eval()
    norm = kind(CHANNELS).double().eval()
    norm.load_state_dict(framework.state_dict())
    if isinstance(norm, GroupedBatchNorm):
        norm.groups = 5  # does not even divide the rows: evaluation has no groups
    x = randn(*shape, seed=1)
    assert torch.equal(norm(x), framework(x))
    torch.testing.assert_close(norm.state_dict(), framework.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_synchronised_in_one_process_is_the_frameworks_batch_norm(shape: tuple[int, ...]) -> None:
    framework = framework_norm(shape)
    norm = SynchronisedBatchNorm(CHANNELS).double()
    norm.load_state_dict(framework.state_dict())
    x = randn(*shape, seed=1)
    assert torch.equal(norm(x), framework(x))
    torch.testing.assert_close(norm.state_dict(), framework.state_dict(), rtol=0, atol=0)


def test_groups_keep_the_digits_of_half_precision_inputs_with_a_large_mean() -> None:
    x = (1000 + randn(8, CHANNELS, seed=1)).to(torch.bfloat16)
    norm = GroupedBatchNorm(CHANNELS)
    norm.groups = 2
    expected = torch.cat([nn.BatchNorm1d(CHANNELS)(rows.float()) for rows in x.chunk(2)])
    out = norm(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, expected.to(torch.bfloat16), rtol=0.01, atol=0.01)


def test_groups_that_do_not_divide_the_rows_are_named() -> None:
    norm = GroupedBatchNorm(CHANNELS)
    norm.groups = 5
    with pytest.raises(ValueError, match=r"12 rows do not divide into groups:5"):
        norm(torch.zeros(12, CHANNELS))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("synchronised", SynchronisedBatchNorm), ("groups:4", GroupedBatchNorm)],
)
def test_the_mode_replaces_every_batch_norm_and_keeps_names_values_and_parameters(
    mode: str, kind: type[nn.Module]
) -> None:
    module = network()
    module(3 + randn(8, CHANNELS, seed=1))  # so that the buffers hold something
    state = {name: value.clone() for name, value in module.state_dict().items()}
    parameters = dict(module.named_parameters())
    is_trained = {name: p.requires_grad for name, p in parameters.items()}
    set_batch_norm_mode(module, mode)

    assert [type(m) for m in module.modules() if isinstance(m, _BatchNorm)] == [kind, kind]
    assert list(module.state_dict()) == list(state)
    torch.testing.assert_close(dict(module.state_dict()), state, rtol=0, atol=0)
    assert [id(p) for p in module.parameters()] == [id(p) for p in parameters.values()]
    assert {name: p.requires_grad for name, p in module.named_parameters()} == is_trained
    outer, inner = (m for m in module.modules() if isinstance(m, _BatchNorm))
    assert (outer.eps, outer.momentum, outer.affine) == (1e-3, 0.3, True)
    assert not inner.affine
    if isinstance(outer, GroupedBatchNorm):
        assert outer.groups == 4


def test_the_replaced_batch_norm_goes_on_where_the_old_one_stood() -> None:
    module, reference = network(), network()
    reference.load_state_dict(module.state_dict())
    set_batch_norm_mode(module, "synchronised")
    for seed in (1, 2):
        x = randn(8, CHANNELS, seed=seed)
        torch.testing.assert_close(module(x), reference(x))
    torch.testing.assert_close(dict(module.state_dict()), dict(reference.state_dict()))
    module.eval(), reference.eval()
    torch.testing.assert_close(module(x), reference(x))


def test_local_changes_nothing() -> None:
    module = network()
    before = list(module.modules())
    set_batch_norm_mode(module, "local")
    assert all(a is b for a, b in zip(before, module.modules(), strict=True))


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_leaves_training_and_evaluation_as_they_are(training: bool) -> None:
    module = network().train(training)
    set_batch_norm_mode(module, "groups:2")
    assert all(m.training is training for m in module.modules())


@pytest.mark.parametrize(
    ("mode", "groups"), [("local", 1), ("synchronised", 1), ("groups:2", 2), ("groups:16", 16)]
)
def test_the_number_of_groups_is_read_from_the_mode(mode: str, groups: int) -> None:
    assert num_groups(mode) == groups


@pytest.mark.parametrize("mode", ["global", "groups", "groups:", "groups:1", "groups:-2", "2", ""])
def test_an_unknown_mode_is_refused_by_its_name(mode: str) -> None:
    with pytest.raises(ValueError, match=f"batch_norm: expected local.*got '{mode}'"):
        num_groups(mode)


@pytest.mark.parametrize("mode", ["local", "synchronised", "groups:2"])
def test_frozen_statistics_record_nothing_and_normalise_by_the_batch_all_the_same(
    mode: str,
) -> None:
    module = network()
    set_batch_norm_mode(module, mode)
    recording = copy.deepcopy(module)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    x = randn(8, CHANNELS, seed=1)
    with frozen_running_statistics(module):
        inside = module(x)
    assert torch.equal(inside, recording(x))
    torch.testing.assert_close(dict(module.state_dict()), before, rtol=0, atol=0)
    module(x)
    torch.testing.assert_close(dict(module.state_dict()), dict(recording.state_dict()))


def test_recording_comes_back_after_an_error_for_those_that_recorded() -> None:
    never = nn.BatchNorm1d(CHANNELS, track_running_stats=False)
    module = nn.Sequential(nn.BatchNorm1d(CHANNELS), never)
    with pytest.raises(RuntimeError, match="boom"), frozen_running_statistics(module):
        assert not any(m.track_running_stats for m in module)
        raise RuntimeError("boom")
    assert [m.track_running_stats for m in module] == [True, False]


@pytest.mark.parametrize("mode", ["synchronised", "groups:2"])
def test_timms_batch_norm_keeps_its_activation(mode: str) -> None:
    layers = pytest.importorskip("timm.layers", reason="models of timm need the extra timm")
    given = nn.Sequential(filled(layers.BatchNormAct2d(CHANNELS, act_layer=nn.ReLU6)))
    converted = copy.deepcopy(given)
    set_batch_norm_mode(converted, mode)
    assert type(converted[0]) is not type(given[0])
    assert converted.state_dict().keys() == given.state_dict().keys()
    x = 5 * randn(6, CHANNELS, 2, 2, seed=1)
    copied = copy.deepcopy(converted)  # as the slow copies are
    if mode == "synchronised":
        assert torch.allclose(converted(x), given(x))
    assert torch.allclose(copied(x).amin(), torch.zeros((), dtype=torch.float64))
    assert torch.allclose(copied.eval()(x), copied(x))
    assert bool(copied(x).amax() <= 6)
