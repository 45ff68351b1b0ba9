"""A captured step as one file: tensors, and JSON in the header; no pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from linear_eval.system.atomic_file import atomic_file
from linear_eval.system.errors import InputError
from ssl_bf.methods.batch import Batch

FORMAT_VERSION = 2
_KEY, _DIGEST = "ssl_bf_step", "sha256"


@dataclass(frozen=True, kw_only=True)
class StepFacts:
    """What is no tensor.

    Attributes:
        config: of the run, as YAML without places of the machine.
        step: as the schedules count, from 0.
        steps_per_epoch: of the run.
        shards: into which its batch is cut.
        processes: that made it.
        class_counts: of each class, how many images are trained on.
        reason: why it was captured.
        precision: of its steps.
        threads: of torch.
        device: `cpu` or `cuda`.
        torch: version.
        loss: of the step as hexadecimal text, `nan` or `inf`: every bit of it.
        outcome: digest of the state after the step.
        changes: see `changes`; empty in the first format.
    """

    config: str
    step: int
    steps_per_epoch: int
    shards: int
    processes: int
    class_counts: list[int]
    reason: str
    precision: str
    threads: int
    device: str
    torch: str
    loss: str
    outcome: str
    changes: dict[str, str]


@dataclass(frozen=True, eq=False)
class StepFile:
    """A captured step: the state before it, by the names of `training_tensors`, and its batch.

    The state is that of the first shard. What the others have of their own, running statistics,
    no step looks at.
    """

    facts: StepFacts
    before: dict[str, Tensor]
    batch: Batch


def digest(tensors: dict[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def changes(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, str]:
    """How far a step moved the weights, what the optimizer keeps, and the rest (L2 norms).

    Where sums are added in another order these stay the same up to rounding, as the bits do not.

    Args:
        before: by the names of `training_tensors`; what is not in it was zero.
        after: likewise.

    Returns:
        Hexadecimal texts, `nan` where a number is broken.
    """
    trained = {name.removeprefix("optimizer/").rpartition("/")[0] for name in after}
    squares = dict.fromkeys(("weights", "optimizer", "rest"), 0.0)
    for name, value in after.items():
        start = before.get(name)
        moved = value.double() if start is None else value.double() - start.to(value.device)
        kind = "optimizer" if name.startswith("optimizer/") else "rest"
        kind = "weights" if name.removeprefix("method/") in trained else kind
        squares[kind] += float(moved.square().sum())
    return {kind: (square**0.5).hex() for kind, square in squares.items()}


def write(path: Path, captured: StepFile) -> None:
    """Write the file whole or not at all; its folder is made."""
    batch = captured.batch
    tensors = {f"before/{name}": value for name, value in captured.before.items()}
    tensors |= {f"batch/view_{n}": view for n, view in enumerate(batch.views)}
    tensors["batch/image_ids"] = batch.image_ids
    if batch.labels is not None:
        tensors["batch/labels"] = batch.labels
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    text = json.dumps({"version": FORMAT_VERSION, **asdict(captured.facts)})
    header = {_KEY: text, _DIGEST: _seal(text, tensors)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(save(tensors, header))


def read(path: Path) -> StepFile:
    """Read a file that `write` wrote.

    Raises:
        InputError: there is none, it is another file, damaged, or of a later version.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected a captured step; give RUN/captured/*")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(
            f"{path}: is no captured step ({error}), expected one that a run wrote to captured/; "
            "give another file"
        ) from error
    text = header.get(_KEY, "")
    if not text or header.get(_DIGEST) != _seal(text, tensors):
        what = "its digest does not fit" if text else "it holds other tensors"
        raise InputError(
            f"{path}: is no sound captured step ({what}), expected one as a run wrote it; capture "
            "it again with run.capture_step"
        )
    facts = json.loads(text)
    if (version := facts.pop("version")) == 1:
        facts |= {"shards": 1, "processes": 1, "changes": {}}  # it knew no others
    elif version != FORMAT_VERSION:
        raise InputError(
            f"{path}: has format {version}, expected {FORMAT_VERSION}; read it with the version "
            "that wrote it"
        )
    views = sorted(name for name in tensors if name.startswith("batch/view_"))
    ids, labels = tensors["batch/image_ids"], tensors.get("batch/labels")
    before = {n.removeprefix("before/"): v for n, v in tensors.items() if n.startswith("before/")}
    return StepFile(
        StepFacts(**facts), before, Batch(tuple(tensors[name] for name in views), ids, labels)
    )


def _seal(text: str, tensors: dict[str, Tensor]) -> str:
    return hashlib.sha256(f"{text}\n{digest(tensors)}".encode()).hexdigest()
