"""One batch of a run, related as in training, but without dropout.

Shapes: N images of the batch, B sequences of g rows, R rows that each of those may attend to.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from linear_eval.system.errors import InputError
from ssl_bf.build import Run
from ssl_bf.keyed_random import StepContext, key
from ssl_bf.layers.attention_weights import Attention
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.measurements import stream_cosines
from ssl_bf.relations.surroundings import Noted


@dataclass(frozen=True, eq=False)
class RelatedBatch:
    """What the relation made of one view of a batch; all on the CPU.

    Attributes:
        step: updates done before it.
        view: number of the view.
        images: (N,) int64, indices into the training images.
        members: (B, g) int64, which row of the batch each row of a sequence is.
        columns: (B, R) int64, the image of each row that may be attended to.
        layers: attention of each layer; none where the relation has no attention.
        cosines: (N,) between the streams.
        notes: lines that say what differs from training.
    """

    step: int
    view: int
    images: Tensor
    members: Tensor
    columns: Tensor
    layers: list[Attention]
    cosines: Tensor
    notes: list[str]


def relate_one_batch(run: Run, step: int, *, shards: int = 1) -> RelatedBatch:
    """The batch that the next step of the run would see, the next one after its end.

    Views, groups, BatchNorm by the batch and precision are those of training; the relation's
    dropout is off. Nothing is written but the state of `run` in memory.

    Args:
        run: restored, with all its images.
        step: updates done.
        shards: of its batches; the share of the first is looked at.

    Raises:
        InputError: the run has no relation.
    """
    relation = run.method.relation
    if relation.relating is None:
        raise InputError(
            "relation.name: this run has no relation, so there is nothing to see; give a run that "
            "was trained with one"
        )
    said = relation.config.without_attention
    notes = ["dropout of the relation is off", *([said] if said else [])]
    run.method.train()
    relation.drop_nothing()
    start, end = relation.config.active
    elapsed = min(step, run.plan.total_steps - 1) / run.plan.total_steps
    if not start <= elapsed < end:
        notes.append(f"the relation acts in {[start, end]} of training only, and is asked here too")
        elapsed = start
    local = run.config.batch_size // (1 if relation.context == "global" else shards)
    if local < run.config.batch_size:
        notes.append(f"the share of the first of {shards} shards")
    batch = _first(run.loader.batch(step), local)
    torch.manual_seed(key(run.config.seed, "dropout", step, 0))
    in_bf16 = run.choices.precision == "bf16"
    with torch.no_grad(), torch.autocast(run.device.type, torch.bfloat16, enabled=in_bf16):
        run.method(batch, StepContext(run.config.seed, step, 0, elapsed))
    noted = relation.noted
    assert noted is not None and noted.images is not None
    layers = [Attention(*(part.cpu() for part in layer)) for layer in relation.attention()]
    members, columns = _who(noted, layers)
    return RelatedBatch(
        step=step,
        view=noted.view,
        images=noted.images.cpu(),
        members=members.cpu(),
        columns=columns.cpu(),
        layers=layers,
        cosines=stream_cosines(noted.streams).cpu(),
        notes=notes,
    )


def _first(batch: Batch, count: int) -> Batch:
    return batch.map(lambda rows: rows[:count])


def _who(noted: Noted, layers: list[Attention]) -> tuple[Tensor, Tensor]:
    """Members (B, g) and columns (B, R); without attention all rows are members of one group."""
    images = noted.images
    assert images is not None
    dealt = torch.arange(len(images), device=images.device) if noted.order is None else noted.order
    if not layers:
        members = dealt[None]
        return members, images[members]
    count, _, group, seen = layers[0].weights.shape
    members = dealt.reshape(count, group)
    columns = images[members]
    if seen > group:
        assert noted.beside is not None and noted.beside.images is not None
        others = noted.beside.images
        columns = torch.cat([columns, others.to(columns.device).reshape(count, -1)], dim=1)
    return members, columns
