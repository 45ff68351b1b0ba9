"""Damaged checkpoints, backbones and stores: refused, or what is read equals what was written."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from linear_eval.backbones.backbone_file import load_backbone
from linear_eval.datasets.dataset import ImageSplit, MemoryReader
from linear_eval.features.store import FeatureStore
from linear_eval.images.batches import EvalImages, ImageBatches
from linear_eval.system.errors import InputError
from ssl_bf.pixels.pack import pack
from ssl_bf.pixels.preparation import Preparation
from ssl_bf.pixels.source import Source
from ssl_bf.run.checkpoint import load_newest
from ssl_bf.run.directory import BACKBONE_FILE
from tests.forked import command
from tests.tiny_run import TINY
from tests.torture.mutants import json_mutant, mutant
from tests.torture.row import Row, Trials, Tried, chance_of

_NUM_IMAGES = 12


@dataclass(frozen=True)
class Readable:
    """Something on the disk.

    Attributes:
        place: its file or folder.
        read: what it holds, to be compared; raises InputError.
        expected: what it holds when it is sound.
    """

    place: Path
    read: Callable[[], Any]
    expected: Any

    def tried(self, row: str, number: int) -> Tried:
        """Damage it, read it, and put it back."""
        chance = chance_of(row, number)
        files = [self.place] if self.place.is_file() else sorted(self.place.rglob("*"))
        files = [file for file in files if file.is_file() and file.name != "lock"]
        file = chance.choice(files)
        sound = file.read_bytes()
        what = _damage(file, sound, [each for each in files if each != file], chance)
        try:
            found = self.read()
        except InputError as error:
            is_line = "\n" not in str(error)
            return Tried(() if is_line else (f"{file.name} {what}: {error!r}",))
        except Exception as error:
            return Tried((f"{file.name} {what}: {type(error).__name__}: {str(error)[:200]}",))
        finally:
            if file.is_dir():
                file.rmdir()
            file.write_bytes(sound)
        return Tried(() if _equal(found, self.expected) else (f"{file.name} {what}: accepted",))


def _damage(file: Path, sound: bytes, others: list[Path], chance: random.Random) -> str:
    kind = chance.random()
    if kind < 0.02:
        file.unlink()
        return "removed"
    if kind < 0.03:
        file.unlink()
        file.mkdir()
        return "as a folder"
    if kind < 0.06 and others:
        file.write_bytes(chance.choice(others).read_bytes())
        return "as a copy of another"
    if kind < 0.4 and sound[:1] == b"{":
        lines = sound.splitlines()
        at = chance.randrange(len(lines)) if file.suffix == ".jsonl" else 0
        text = lines[at] if file.suffix == ".jsonl" else sound
        try:
            lines[at : at + 1] = [json.dumps(json_mutant(json.loads(text), chance)).encode()]
            file.write_bytes(b"\n".join(lines) + b"\n" if file.suffix == ".jsonl" else lines[0])
        except (ValueError, UnicodeEncodeError):
            file.write_bytes(mutant(sound, chance))
        return "with another value"
    file.write_bytes(mutant(sound, chance))
    return "with other bytes"


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return (one.dtype, one.shape) == (other.dtype, other.shape) and torch.equal(
            *(each.contiguous().reshape(-1).view(torch.uint8) for each in (one, other))
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    return bool(one == other)


# ---- a run, with its checkpoints and its backbone


def trained(folder: Path) -> Path:
    """The directory of a tiny run that is done."""
    os.chdir(folder)
    Path("tiny.yaml").write_text(yaml.safe_dump({**TINY, "relation": {"name": "none"}}))
    words = ["ssl-bf", "pretrain", "tiny.yaml", "speed.threads=1"]
    assert command(words, folder / "errors") == 0, (folder / "errors").read_text()
    return folder / "run"


def _checkpoints(folder: Path) -> Trials:
    run = trained(folder)
    older, newest = sorted((run / "checkpoints").iterdir())
    shutil.rmtree(older)

    def read() -> Any:
        found = load_newest(run)
        return {"step": found.step, "state": found.state, "tensors": found.tensors}

    each = Readable(newest, read, read())
    return Trials(lambda number: each.tried("checkpoints", number))


def _backbones(folder: Path) -> Trials:
    file = trained(folder) / BACKBONE_FILE

    def read() -> Any:
        backbone, info = load_backbone(file)
        return {"info": info, "tensors": dict(backbone.state_dict())}

    each = Readable(file, read, read())
    return Trials(lambda number: each.tried("backbones", number))


# ---- stores of pixels and of features


def _split() -> ImageSplit:
    generator = torch.Generator().manual_seed(0)
    shape = (_NUM_IMAGES, 3, 9, 8)
    pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    return ImageSplit(
        ids=tuple(f"folder/{i}.jpg" for i in range(_NUM_IMAGES)),
        labels=torch.arange(_NUM_IMAGES) % 3,
        class_names=("a", "b", "c"),
        read=MemoryReader(pixels),
        fingerprint="f",
    )


def _packed(folder: Path) -> Readable:
    split = _split()
    source = Source(split, "f", lambda: source)
    preparation = Preparation()

    def read() -> Any:
        store = pack(folder / "packed", source, preparation)  # what `ssl-bf pack` does
        store.check()
        images = store.packed(store.rows(split))
        pixels = [images[torch.tensor([row])].images()[0] for row in range(_NUM_IMAGES)]
        return {"bad": store.bad_images, **dict(enumerate(pixels))}

    return Readable(folder / "packed", read, read())


def _features(folder: Path) -> Readable:
    batches = ImageBatches(split=_split(), images=EvalImages(), batch_size=4, on_bad_image="skip")

    def embed(images: Tensor) -> Tensor:
        return images.double().flatten(1)[:, :6] / 7 - 3

    def read() -> Any:
        table = FeatureStore(folder=folder / "features").table("w", embed, batches)
        return {"features": table.features.clone(), "labels": table.labels, "ids": table.ids}

    expected = read()
    (place,) = (folder / "features").iterdir()
    return Readable(place, read, expected)


def _stores(folder: Path) -> Trials:
    kinds = (_packed, _features)

    def trial(number: int) -> Tried:
        scratch = folder / str(number)
        scratch.mkdir()
        try:
            return kinds[number % 2](scratch).tried("stores", number)
        finally:
            shutil.rmtree(scratch)

    return Trials(trial)


CHECKPOINTS = Row(
    name="checkpoints",
    says="mutated checkpoints: wrongly accepted",
    prepare=_checkpoints,
    must=10_000,
    chunk=500,
)
BACKBONES = Row(
    name="backbones",
    says="mutated backbones: wrongly accepted",
    prepare=_backbones,
    must=10_000,
    chunk=500,
)
STORES = Row(
    name="stores",
    says="mutated stores of pixels and of features: wrongly accepted",
    prepare=_stores,
    must=500,
    chunk=50,
)
