import re

import pytest
import torch
from torch import Tensor

from linear_eval.checkpoints import match as checkpoint_match
from linear_eval.checkpoints.dialects import DIALECTS
from linear_eval.checkpoints.layouts import LAYOUTS, Layout
from linear_eval.checkpoints.match import match_backbone
from linear_eval.system.errors import InputError

EXPECTED = {"a.weight": (2, 3), "bn.weight": (2,), "bn.num_batches_tracked": ()}


def tensors(prefix: str = "", **others: Tensor) -> dict[str, Tensor]:
    return {prefix + name: torch.zeros(shape) for name, shape in EXPECTED.items()} | others


def refusal(given: dict[str, Tensor], architecture: str = "net") -> str:
    with pytest.raises(InputError) as caught:
        match_backbone(given, EXPECTED, architecture)
    return str(caught.value)


@pytest.mark.parametrize("container", ["", "state_dict/", "model/", "model_state_dict/"])
@pytest.mark.parametrize("wrapper", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_containers_and_wrappers_do_not_matter(container: str, wrapper: str) -> None:
    match = match_backbone(tensors(f"{container}{wrapper}encoder_q."), EXPECTED, "net")
    assert match.root == f"{container}{wrapper}encoder_q."
    assert match.used == {name: match.root + name for name in EXPECTED}


def test_a_counter_of_steps_may_be_missing_and_nothing_else() -> None:
    for name in EXPECTED:
        given = tensors()
        del given[name]
        if name == "bn.num_batches_tracked":
            assert match_backbone(given, EXPECTED, "net").is_complete
        else:
            assert f"1 missing: {name}" in refusal(given)


def test_a_shape_that_does_not_fit_is_named() -> None:
    given = tensors() | {"a.weight": torch.zeros(3, 2)}
    assert "1 of another shape: a.weight (3, 2) instead of (2, 3)" in refusal(given)


@pytest.mark.parametrize("name", ["b.weight", "optimizer", "encoder_q.x", "xfc.weight", "fc.w"])
def test_a_tensor_of_no_group_is_refused(name: str) -> None:
    assert "1 tensors beside the net belong to no known group" in refusal(
        tensors() | {name: torch.zeros(1)}
    )


def test_two_names_for_one_tensor_are_not_merged() -> None:
    # torchvision's own MLP was renamed once: a file with both spellings has one tensor too many
    expected: dict[str, tuple[int, ...]] = {"blocks.0.mlp.fc1.bias": (1,)}
    both = {
        f"encoder.layers.encoder_layer_0.mlp.{name}.bias": torch.zeros(1)
        for name in ("0", "linear_1")
    }
    with pytest.raises(InputError, match="mlp.linear_1.bias"):
        match_backbone(both, expected, "net")


def test_two_encoders_that_fit_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    layouts = (
        Layout("left", "left.", beside={"the other": r"right\."}),
        Layout("right", "right.", beside={"the other": r"left\."}),
    )
    monkeypatch.setattr(checkpoint_match, "LAYOUTS", layouts)
    message = refusal(tensors("left.") | tensors("right."))
    assert "two encoders fit net, left. (left) and right. (right)" in message


def test_layouts_that_agree_are_named_by_the_first() -> None:
    match = match_backbone(tensors("backbone."), EXPECTED, "net")
    assert match.layout.name == "backbone. and nothing beside it"


def test_solo_learns_refusal_holds_for_its_cifar_stem_only() -> None:
    given = tensors("backbone.", **{"classifier.weight": torch.zeros(1)})
    assert match_backbone(given, EXPECTED, "resnet18").layout.name == "solo-learn"
    assert "use --architecture resnet18_cifar_padding2" in refusal(given, "resnet18_cifar")


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout.name}: {layout.prefix}")
@pytest.mark.parametrize("extra", ["layer1.2.conv1.weight", "blocks.12.norm1.bias", "norm.weight"])
def test_no_layout_drops_a_part_of_the_encoder_that_it_takes(layout: Layout, extra: str) -> None:
    some = ("state_dict/", "teacher/", "classy_state_dict/base_model/model/trunk/")
    inner = next(each for each in some if re.fullmatch(layout.containers, each))
    root = inner + layout.prefix
    assert match_backbone(tensors(root), EXPECTED, "net").root == root
    assert root + extra in refusal(tensors(root) | {root + extra: torch.zeros(1)})


def test_a_dialect_leaves_our_names_alone_or_is_not_ours() -> None:
    ours = ["conv1.weight", "layer2.0.downsample.1.bias", "blocks.3.mlp.fc1.weight", "pos_embed"]
    for dialect in DIALECTS:
        assert [checkpoint_match._rename(name, dialect) for name in ours] == ours
