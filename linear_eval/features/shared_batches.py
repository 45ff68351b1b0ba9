"""One table of features made by all processes: each embeds its share of the batches.

The main process makes the table as if it were alone, in memory or in a folder. Whenever it needs
batches, every process embeds one, and the main process receives them in order. The batches are
those of a single process, so the table is the same to the bit.

Shapes: N images of a batch, M images of a split, D feature width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import torch

from linear_eval.datasets.contents import DIGEST_BYTES, Contents
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.features.table import Embed, FeatureTable
from linear_eval.images.batches import EmbeddedBatch, EvalImages, ImageBatches, unequal_sizes
from linear_eval.system.agreement import AgreedError, agreed, gather_vectors
from linear_eval.system.distributed import (
    all_gather_rows,
    broadcast_from_main,
    is_main,
    rank,
    world_size,
)
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_DONE = -1  # in place of the row where a round begins
_SENT_AT_ONCE = 2**26  # entries


@dataclass(frozen=True, eq=False, kw_only=True)
class SharedBatches(ImageBatches):
    """Batches that `together` deals out: in every round one to each process, by rank.

    Whoever iterates over them sees all of them, as ever.

    Attributes:
        own: what is dealt to this process when a table is begun.
    """

    own: ImageBatches

    def showing(self, split: ImageSplit, images: EvalImages) -> ImageBatches:
        """See `ImageBatches`; shared as well."""
        return share(super().showing(split, images))

    def one_size(self) -> tuple[int, int]:
        """See `ImageBatches`."""
        return agreed(super().one_size)

    def turns(self, embed: Embed, row: int) -> Iterator[EmbeddedBatch | None]:
        """What is dealt to this process in each round, the first beginning at image `row`.

        None where no batch is left, or nothing of it could be read.
        """
        rows = _own_rows(self, row)
        waiting: EmbeddedBatch | None = None
        found = (self.own if row == 0 else self.select(rows)).embedded(embed)
        for turn in count():
            waiting = waiting or next(found, None)
            if waiting is None or int(waiting[0][0]) // self.batch_size > turn:
                yield None
                continue
            index, features, image_size = waiting
            waiting = None
            yield rows[index], features, image_size

    def select(self, indices: Tensor) -> ImageBatches:
        """See `ImageBatches`; not shared."""
        return super().showing(self.split.select(indices), self.images)


def share(
    batches: ImageBatches, hold: Callable[[ImageBatches], ImageBatches] = lambda own: own
) -> ImageBatches:
    """The same batches for all processes together.

    Args:
        batches: of the whole split.
        hold: made of what one process is dealt.
    """
    if world_size() == 1:
        return hold(batches)
    return SharedBatches(
        split=batches.split,
        images=batches.images,
        batch_size=batches.batch_size,
        on_bad_image=batches.on_bad_image,
        max_bad=batches.max_bad,
        own=hold(batches.select(_own_rows(batches, 0))),
    )


def together(
    batches: ImageBatches,
    embed: Embed,
    make: Callable[[ImageBatches], FeatureTable],
    read: Callable[[], FeatureTable | None] = lambda: None,
) -> FeatureTable:
    """The table that `make` makes, in every process; batches that are not shared are just used.

    Args:
        batches: of the split.
        embed: called in every process.
        make: called in the main process, with batches that all processes embed.
        read: called in the others after it: the table, if they find it on their disk; where one
            does not, it is sent.

    Raises:
        InputError: in every process: `make` or `embed` refused something in one of them.
    """
    if not isinstance(batches, SharedBatches):
        return make(batches)
    made = agreed(lambda: _lead(batches, make) if is_main() else _follow(batches, embed))
    table = agreed(lambda: made or read())
    has_one = all_gather_rows(torch.tensor([table is not None]))
    sent = None if has_one.all() else _send(made, batches.split)
    return next(each for each in (table, sent) if each is not None)


@dataclass(frozen=True, eq=False, kw_only=True)
class _LedBatches(ImageBatches):
    shared: SharedBatches

    def embedded(self, embed: Embed, row: int = 0) -> Iterator[EmbeddedBatch]:
        turns = self.shared.turns(embed, row)
        first: tuple[str, tuple[int, int]] | None = None
        for start in range(row, len(self.split), self.batch_size * world_size()):
            _say(start)
            for batch in _gathered(turns, self.split.contents):
                index, _, size = batch
                name = self.split.ids[int(index[0])]
                first = first or (name, size)
                if size != first[1]:
                    raise unequal_sizes(*first, name, size)
                yield batch


def _lead(batches: SharedBatches, make: Callable[[ImageBatches], FeatureTable]) -> FeatureTable:
    led = _LedBatches(
        split=batches.split,
        images=batches.images,
        batch_size=batches.batch_size,
        on_bad_image=batches.on_bad_image,
        max_bad=batches.max_bad,
        shared=batches,
    )
    try:
        table = make(led)
    except AgreedError:
        raise  # the others raise it as well, and listen no more
    except InputError:
        _say(_DONE)
        raise
    _say(_DONE)
    return table


def _follow(batches: SharedBatches, embed: Embed) -> None:
    turns: Iterator[EmbeddedBatch | None] = iter(())
    expected = _DONE
    while (start := _say(_DONE)) != _DONE:
        if start != expected:
            turns = batches.turns(embed, start)
        _gathered(turns, batches.split.contents)
        expected = start + batches.batch_size * world_size()


def _say(start: int) -> int:
    """Where the main process says that the next round begins."""
    return int(broadcast_from_main(torch.tensor([start])))


def _gathered(
    turns: Iterator[EmbeddedBatch | None], contents: Contents | None
) -> list[EmbeddedBatch]:
    """The batches of one round, in their order; what their files hold is noted in `contents`."""
    batch = agreed(lambda: next(turns))
    nothing = (torch.empty(0, dtype=torch.int64), torch.empty(0, 0), (0, 0))
    index, features, size = batch or nothing
    shapes = all_gather_rows(torch.tensor([[*features.shape, *size]])).tolist()
    rows = gather_vectors(index)
    if contents is not None:
        digests = gather_vectors(contents.digests(index).flatten())
        contents.learn(torch.cat(rows), torch.cat(digests).view(-1, DIGEST_BYTES))
    return [
        (its_rows, values.view(n, width), (image_height, image_width))
        for (n, width, image_height, image_width), its_rows, values in zip(
            shapes, rows, gather_vectors(features.flatten()), strict=True
        )
        if n
    ]


def _own_rows(batches: ImageBatches, row: int) -> Tensor:
    """The images of this process's batches, where the first batch begins at image `row`."""
    size, end = batches.batch_size, len(batches.split)
    starts = range(row + rank() * size, end, world_size() * size)
    parts = [torch.arange(start, min(start + size, end)) for start in starts]
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)


def _send(table: FeatureTable | None, split: ImageSplit) -> FeatureTable:
    """The main process's table, in every process."""
    shape, rows = torch.zeros(3, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    if table is not None:
        is_half = table.features.dtype == torch.float16
        shape = torch.tensor([*table.features.shape, is_half])
        place = {name: row for row, name in enumerate(split.ids)}
        rows = torch.tensor([place[name] for name in table.ids])
    count, width, half = broadcast_from_main(shape).tolist()
    if table is None:
        rows = torch.empty(count, dtype=torch.int64)
        features = torch.empty(count, width, dtype=torch.float16 if half else torch.float32)
    else:
        features = table.features
    broadcast_from_main(rows)
    for part in features.split(max(1, _SENT_AT_ONCE // width)):
        broadcast_from_main(part)
    ids = tuple(split.ids[row] for row in rows.tolist())
    return FeatureTable(features, split.labels[rows], ids)
