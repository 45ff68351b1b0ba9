"""Two 224 px views of every image, end to end: ours beside lightly's transform on PIL images.

Run: BENCH_IMAGES=FOLDER python -m bench.input --threads 1. Without BENCH_IMAGES the images are made
up: smooth noise of 500 x 375 pixels, which decodes faster than photographs. With one thread the
process stays on one core, so that wall time compares cores: lightly's users give each core a
worker, ours are threads of one process.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from bench.options import parse
from bench.rounds import compare
from linear_eval.datasets.image_folder import ImageFolderConfig
from ssl_bf.choices.allocator import keep_freed_memory
from ssl_bf.pixels.residency import Place, Residency, open_images
from ssl_bf.pixels.source import Source, open_source
from ssl_bf.samplers.sampler import EveryImage, Pool
from ssl_bf.views.lightly_views import lightly_transform
from ssl_bf.views.loader import ViewLoader
from ssl_bf.views.recipes import ViewsConfig

BATCH = 32
CPU = torch.device("cpu")
# Of channel means, and of deviations, of normalised views; divided by the root of their number.
# About three standard errors: brightness alone moves a view's mean by 0.5.
TOLERANCE = 3.0


class Views(NamedTuple):
    """What all views of an epoch have in common, whoever made them."""

    batches: int
    shape: tuple[int, ...]
    mean: Tensor  # (3,)
    std: Tensor  # (3,)


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """From JPEG files first, then from a packed store, which holds the same pixels."""
    options = parse("JPEG files and a packed store to two views, against lightly.", argv)
    if options.threads == 1:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    keep_freed_memory()  # as ssl_bf.train does; lightly's profits as well
    views = ViewsConfig(recipe="moco_v2", size=32 if options.quick else 224)
    rows = []
    with TemporaryDirectory() as folder:
        images = os.environ.get("BENCH_IMAGES") or made_up_jpegs(
            Path(folder) / "made_up", options.quick
        )
        source = open_source(ImageFolderConfig(root=str(images)))
        store = Path(folder) / "store"
        steps = len(source.split) // BATCH
        facts = {
            "images": steps * BATCH,
            "size": views.size,
            "made_up": "BENCH_IMAGES" not in os.environ,
        }
        for name, place in (("input_files", "files"), ("input_packed", "disk")):
            with our_loader(source, views, store, place) as loader:  # type: ignore[arg-type]
                variants: dict[str, Callable[[], Views]] = {
                    "ours": partial(our_views, loader, itertools.count()),
                    "lightly on PIL images": partial(lightly_views, source, views, Path(images)),
                }
                rows += compare(name, variants, check=alike, options=options, facts=facts, flop=0.0)
    return rows


def our_loader(source: Source, views: ViewsConfig, store: Path, place: Place) -> ViewLoader:
    """As `ssl-bf pretrain` opens it, for images that are read anew in every epoch."""
    images = open_images(
        source.split,
        source,
        views.preparation,
        residency=Residency(images=place, store=store if place == "disk" else None, memory_mib=0),
        device=CPU,
        on_bad_image="error",
    )
    return ViewLoader(
        images,
        views,
        EveryImage(Pool(seed=0, batch_size=BATCH, labels=source.split.labels)),
        rank=0,
        world_size=1,
        device=CPU,
        channels_last=False,
    )


def our_views(loader: ViewLoader, epochs: Iterator[int]) -> Views:
    """The next epoch: its first batch was read ahead, as that of the one after it will be."""
    first = next(epochs) * loader.steps_per_epoch
    batches = map(loader.batch, range(first, first + loader.steps_per_epoch))
    return summary(batch.views for batch in batches)


def lightly_views(source: Source, views: ViewsConfig, folder: Path) -> Views:
    """As lightly's data sets do it: each file opened by PIL, both views cut from one decoding."""
    transform = lightly_transform(views)
    ids = source.split.ids

    def batches() -> Iterator[tuple[Tensor, ...]]:
        for start in range(0, len(ids) // BATCH * BATCH, BATCH):
            pairs = []
            for name in ids[start : start + BATCH]:
                with Image.open(folder / name) as file:
                    pairs.append(transform(file.convert("RGB")))
            yield tuple(torch.stack(view) for view in zip(*pairs, strict=True))

    return summary(batches())


def summary(batches: Iterable[tuple[Tensor, ...]]) -> Views:
    """Means and deviations over batches of views (N, 3, S, S); of some pixels: it costs little.

    A batch is dropped when the next comes, as in training.
    """
    moments, shape = [], tuple[int, ...]()
    for views in batches:
        for view in views:
            few, shape = view[..., ::16, ::16], tuple(view.shape)
            moments.append(torch.stack((few.mean((0, 2, 3)), few.square().mean((0, 2, 3)))))
    mean, square = torch.stack(moments).mean(0)
    return Views(len(moments), shape, mean, (square - mean**2).sqrt())


def alike(ours: Views, theirs: Views) -> str:
    """Whether two epochs are made of as many views, of one shape, with the same statistics."""
    if (ours.batches, ours.shape) != (theirs.batches, theirs.shape):
        return f"{ours.batches} x {ours.shape} and {theirs.batches} x {theirs.shape}"
    for name in ("mean", "std"):
        difference = float((getattr(ours, name) - getattr(theirs, name)).abs().max())
        if difference > TOLERANCE / math.sqrt(ours.batches * ours.shape[0]):
            return f"{name} differs by {difference:.3f}"
    return ""


def made_up_jpegs(folder: Path, quick: bool) -> Path:
    """JPEG files of smooth noise."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for number in range((1 if quick else 6) * BATCH):
        noise = torch.rand((1, 3, 38, 50), generator=generator)
        image = F.interpolate(noise, (375, 500), mode="bicubic").clamp(0, 1)[0]
        pixels = (255 * image).byte().permute(1, 2, 0).contiguous().numpy()
        Image.fromarray(pixels).save(folder / f"{number:03d}.jpg", quality=90)
    return folder


if __name__ == "__main__":
    main()
