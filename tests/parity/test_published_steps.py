"""One training step of each published model, recorded in float64, against ours.

Run: pytest tests/parity (the recordings lie in the folder that PARITY_DIR names).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssl_bf.losses.unit_length import unit_length
from ssl_bf.methods.method import Method, Start
from ssl_bf.methods.moco_v2 import MoCoV2, MoCoV2Config
from ssl_bf.methods.moco_v3 import MoCoV3Config
from ssl_bf.methods.simsiam import SimSiamConfig
from ssl_bf.relations.batchformer import BatchFormerConfig
from tests.pairs import pair

Recording = dict[str, np.ndarray]
AssertAgrees = Callable[[Any, Any, str], None]

LAYER = "encoder_layers."
OUR_LAYER = "relation.relating.encoder_layers.0."


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(array))


def load(method: Method, recording: Recording, names: dict[str, str]) -> None:
    """Fill the method from `before/`; every parameter and buffer of it must be covered."""
    state = {k: tensor(recording[f"before/{theirs}"]) for theirs, k in names.items()}
    expected = {k for k in method.state_dict() if not k.startswith("queues.")}
    assert set(state) == expected, set(state) ^ expected
    method.load_state_dict({**method.state_dict(), **state})


def check_after(
    method: Method, recording: Recording, names: dict[str, str], agrees: AssertAgrees
) -> None:
    """Compare every tensor of `after/` and every `grad/` of the recording."""
    state, parameters = method.state_dict(), dict(method.named_parameters())
    for theirs, ours in names.items():
        agrees(state[ours], recording[f"after/{theirs}"], theirs)
    gradients = {k.removeprefix("grad/") for k in recording if k.startswith("grad/")}
    assert gradients
    for theirs in gradients:
        agrees(parameters[names[theirs]].grad, recording[f"grad/{theirs}"], f"grad of {theirs}")
    for theirs, ours in names.items():
        if ours in parameters and theirs not in gradients and parameters[ours].grad is not None:
            # Published as one tensor under several names: recorded under the first only.
            assert ours.startswith("relation."), f"{ours} has a gradient that the recording lacks"


def prefixed(recording: Recording, theirs: str, ours: str) -> dict[str, str]:
    """Map `before/<theirs>...` names to `<ours>...`."""
    names = [k.removeprefix("before/") for k in recording if k.startswith(f"before/{theirs}")]
    return {name: ours + name.removeprefix(theirs) for name in names}


def moco_v2_names(recording: Recording, head: dict[str, str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for theirs, ours in head.items():
        names |= prefixed(recording, f"encoder_q.fc.{theirs}.", f"projector.{ours}.")
        names |= prefixed(recording, f"encoder_k.fc.{theirs}.", f"slow_projector.{ours}.")
    return names


def step_moco_v2(
    method: MoCoV2, recording: Recording, agrees: AssertAgrees, names: dict[str, str]
) -> None:
    load(method, recording, names)
    queue = method.queue(0)
    queue.keys.copy_(tensor(recording["before/queue"]).T)
    queue.pointer.copy_(tensor(recording["before/queue_ptr"])[0])
    h_query = tensor(recording["h_query"]).requires_grad_()
    method.move_slow_copies(float(recording["momentum"]))
    loss = method(pair(h_query, tensor(recording["h_key"])))
    loss.backward()

    agrees(loss, recording["loss"], "loss")
    agrees(h_query.grad, recording["grad_h_query"], "gradient of the features")
    assert method.observed is not None
    queries, keys, _ = method.observed
    similar = [
        torch.cat([(q * k).sum(1, keepdim=True), q @ queue.keys.T], dim=1)
        for q in unit_length(queries)
        for k in keys
    ]
    agrees(torch.cat(similar) / float(recording["temperature"]), recording["logits"], "logits")
    method.push_keys()
    agrees(queue.keys.T, recording["after/queue"], "queue")
    assert int(queue.pointer) == int(recording["after/queue_ptr"][0])
    check_after(method, recording, names, agrees)


def moco_v2_config(recording: Recording, **keys: Any) -> MoCoV2Config:
    width, size = recording["before/queue"].shape
    temperature = float(recording["temperature"])
    return MoCoV2Config(
        temperature=temperature,
        projection_dim=width,
        queue_size=size,
        mask_same_image=False,
        **keys,
    )


def test_moco_v2_step_equals_the_published_one(
    parity_file: Callable[[str], Recording], assert_agrees: AssertAgrees
) -> None:
    recording = parity_file("mocov2")
    width = recording["h_query"].shape[1]
    method = moco_v2_config(recording).build(Start(nn.Identity(), width)).double()
    names = moco_v2_names(recording, {"0": "0", "2": "2"})
    step_moco_v2(method, recording, assert_agrees, names)


def test_moco_v2_with_batchformer_step_equals_the_published_one(
    parity_file: Callable[[str], Recording], assert_agrees: AssertAgrees
) -> None:
    recording = parity_file("mocov2_batchformer")
    width = recording["h_query"].shape[1]
    relation = BatchFormerConfig(
        insert_at="backbone", parameters="shared", pairs="all", context="local", dropout=0.0
    )
    config = moco_v2_config(recording, head_batch_norm=True, hidden_layers=2, queue_streams="both")
    method = config.build(Start(nn.Identity(), width, relation)).double()
    names = moco_v2_names(recording, {"1": "0", "2": "1", "4.0": "3", "4.1": "4", "4.3": "6"})
    names |= prefixed(recording, f"encoder_q.fc.0.{LAYER}", OUR_LAYER)
    step_moco_v2(method, recording, assert_agrees, names)
    ours = method.state_dict()
    for theirs, name in prefixed(recording, f"encoder_k.fc.0.{LAYER}", OUR_LAYER).items():
        assert_agrees(ours[name], recording[f"after/{theirs}"], f"{theirs}: one shared object")


def step_symmetric(
    method: Method, recording: Recording, agrees: AssertAgrees, names: dict[str, str]
) -> None:
    load(method, recording, names)
    h1 = tensor(recording["h1"]).requires_grad_()
    h2 = tensor(recording["h2"]).requires_grad_()
    if "momentum" in recording:
        method.move_slow_copies(float(recording["momentum"]))
    loss = method(pair(h1, h2))
    loss.backward()
    method.push_keys()
    agrees(loss, recording["loss"], "loss")
    agrees(h1.grad, recording["grad_h1"], "gradient of the features of view 1")
    agrees(h2.grad, recording["grad_h2"], "gradient of the features of view 2")
    check_after(method, recording, names, agrees)


def moco_v3_config(recording: Recording) -> MoCoV3Config:
    out, hidden = recording["before/predictor.3.weight"].shape
    return MoCoV3Config(
        temperature=float(recording["temperature"]), projection_dim=out, hidden_dim=hidden
    )


def test_moco_v3_step_equals_the_published_one(
    parity_file: Callable[[str], Recording], assert_agrees: AssertAgrees
) -> None:
    recording = parity_file("mocov3")
    method = moco_v3_config(recording).build(Start(nn.Identity(), recording["h1"].shape[1]))
    names = (
        prefixed(recording, "base_encoder.fc.", "projector.")
        | prefixed(recording, "momentum_encoder.fc.", "slow_projector.")
        | prefixed(recording, "predictor.", "predictor.")
    )
    step_symmetric(method.double(), recording, assert_agrees, names)


def test_moco_v3_with_batchformer_step_equals_the_published_one(
    parity_file: Callable[[str], Recording], assert_agrees: AssertAgrees
) -> None:
    recording = parity_file("mocov3_batchformer")
    relation = BatchFormerConfig(
        insert_at="backbone", parameters="frozen", pairs="all", context="local", dropout=0.0,
        reduction="sum",
    )  # fmt: skip
    method = moco_v3_config(recording).build(
        Start(nn.Identity(), recording["h1"].shape[1], relation)
    )
    names = prefixed(recording, f"encoder_global.{LAYER}", OUR_LAYER)
    names |= prefixed(recording, "predictor.", "predictor.")
    for number in (1, 2, 4, 5):  # the published head starts with the module, ours with the Linear
        ours = number - 1
        names |= prefixed(recording, f"base_encoder.fc.{number}.", f"projector.{ours}.")
        names |= prefixed(recording, f"momentum_encoder.fc.{number}.", f"slow_projector.{ours}.")
    step_symmetric(method.double(), recording, assert_agrees, names)
    assert all(p.grad is None for p in method.relation.parameters())


def test_simsiam_step_equals_the_published_one(
    parity_file: Callable[[str], Recording], assert_agrees: AssertAgrees
) -> None:
    recording = parity_file("simsiam")
    hidden, out = recording["before/predictor.0.weight"].shape
    config = SimSiamConfig(projection_dim=out, predictor_hidden_dim=hidden)
    method = config.build(Start(nn.Identity(), recording["h1"].shape[1]))
    names = prefixed(recording, "encoder.fc.", "projector.")
    names |= prefixed(recording, "predictor.", "predictor.")
    step_symmetric(method.double(), recording, assert_agrees, names)


def test_a_wrong_temperature_would_be_noticed(
    parity_file: Callable[[str], Recording], assert_agrees: AssertAgrees
) -> None:
    recording = parity_file("mocov3")
    recording = {**recording, "temperature": recording["temperature"] * (1 + 1e-8)}
    method = moco_v3_config(recording).build(Start(nn.Identity(), recording["h1"].shape[1]))
    names = (
        prefixed(recording, "base_encoder.fc.", "projector.")
        | prefixed(recording, "momentum_encoder.fc.", "slow_projector.")
        | prefixed(recording, "predictor.", "predictor.")
    )
    with pytest.raises(AssertionError):
        step_symmetric(method.double(), recording, assert_agrees, names)
