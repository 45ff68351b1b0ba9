"""The published binary form of CIFAR-10 and CIFAR-100: records of label bytes and 3072 pixels."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import tarfile
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch

from linear_eval.datasets.dataset import ImageSplit, MemoryReader, fingerprint_of
from linear_eval.system.atomic_file import atomic_file
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable

_PIXEL_BYTES = 3 * 32 * 32
_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60
_MAX_RECORDS = 50_000  # in one file; a larger one is not CIFAR


@dataclass(frozen=True)
class BinaryForm:
    """What is fixed about one of the two archives.

    Attributes:
        label_bytes: label bytes before the pixels of a record; the last one is the label.
        folder: the folder inside the archive.
        pickled: names by which the pickled version, never read, is recognised.
        md5: of the published .tar.gz.
    """

    name: str
    class_names: tuple[str, ...]
    label_bytes: int
    folder: str
    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    archive: str
    md5: str
    pickled: tuple[str, ...]

    @property
    def url(self) -> str:
        """Where the publisher offers the archive."""
        return f"https://www.cs.toronto.edu/~kriz/{self.archive}"

    def files(self, split: Literal["train", "test"]) -> tuple[str, ...]:
        """The split's files, in order."""
        return self.train_files if split == "train" else self.test_files


CIFAR10 = BinaryForm(
    name="cifar10",
    class_names=tuple("airplane automobile bird cat deer dog frog horse ship truck".split()),
    label_bytes=1,
    folder="cifar-10-batches-bin",
    train_files=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    test_files=("test_batch.bin",),
    archive="cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    pickled=("cifar-10-batches-py", "cifar-10-python.tar.gz", "data_batch_1"),
)
CIFAR100 = BinaryForm(
    name="cifar100",
    class_names=tuple(
        """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
        butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
        crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house
        kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
        mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
        plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew
        skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank
        telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf
        woman worm""".split()
    ),
    label_bytes=2,  # coarse, fine
    folder="cifar-100-binary",
    train_files=("train.bin",),
    test_files=("test.bin",),
    archive="cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    pickled=("cifar-100-python", "cifar-100-python.tar.gz", "train"),
)


def binary_source(root: Path, form: BinaryForm) -> Path | None:
    """The folder or archive to read: extracted in `root`, in the archive's folder, or .tar.gz."""
    for folder in (root / form.folder, root):
        if (folder / form.train_files[0]).is_file() or (folder / form.test_files[0]).is_file():
            return folder
    archive = root / form.archive
    return archive if archive.is_file() else None


def read_binary(source: Path, form: BinaryForm, split: Literal["train", "test"]) -> ImageSplit:
    """Read one split into memory.

    Raises:
        InputError: a file is missing, damaged, or not made of whole records with valid labels.
    """
    wanted = form.files(split)
    contents = (
        _from_folder(source, wanted) if source.is_dir() else _from_archive(source, form, wanted)
    )
    width = form.label_bytes + _PIXEL_BYTES
    for name, content in contents.items():
        if not content or len(content) % width or len(content) > width * _MAX_RECORDS:
            raise InputError(
                f"{printable(str(source))}: {name} has {len(content)} bytes, expected a multiple"
                f" of {width}; extract or fetch the binary archive again"
            )
    joined = b"".join(contents.values())
    records = np.frombuffer(joined, dtype=np.uint8).reshape(-1, width)
    labels = torch.from_numpy(records[:, form.label_bytes - 1].astype(np.int64))
    if int(labels.max()) >= len(form.class_names):
        raise InputError(
            f"{printable(str(source))}: holds the label {int(labels.max())}, expected labels below"
            f" {len(form.class_names)}; check that data.name fits the files"
        )
    pixels = torch.from_numpy(records[:, form.label_bytes :].reshape(-1, 3, 32, 32).copy())
    ids = tuple(f"{split}/{row:05d}" for row in range(len(records)))
    return ImageSplit(
        ids=ids,
        labels=labels,
        class_names=form.class_names,
        read=MemoryReader(pixels),
        fingerprint=fingerprint_of(form.name, ids, labels, hashlib.sha256(joined).digest()),
        pixels=pixels,
    )


def download_archive(root: Path, form: BinaryForm) -> Path:
    """Fetch the archive from its publisher; it appears under its name only when it is whole.

    Raises:
        InputError: it cannot be fetched or written, or its md5 is wrong.
    """
    target = root / form.archive
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"data.root: '{printable(str(root))}' cannot be made ({error.strerror}), expected a"
            " folder that can be written; set data.root=FOLDER"
        ) from error
    with atomic_file(target) as file:
        found = _fetch(form, file)
        if found != form.md5:
            raise InputError(
                f"{form.url}: what was fetched has the md5 {found}, expected {form.md5};"
                " try again, or fetch the archive yourself"
            )
    return target


def _fetch(form: BinaryForm, file: BinaryIO) -> str:
    """Copy the publisher's archive into an open file and return its md5 (hex)."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with urllib.request.urlopen(form.url, timeout=_TIMEOUT_SECONDS) as answer:
            while chunk := answer.read(_CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(
            f"{form.url}: cannot be fetched ({printable(str(error))}), expected a network and room"
            " on the disk; fetch it yourself into data.root"
        ) from error
    return digest.hexdigest()


def _from_folder(folder: Path, wanted: tuple[str, ...]) -> dict[str, bytes]:
    contents = {}
    for name in wanted:
        try:
            contents[name] = (folder / name).read_bytes()
        except OSError as error:
            raise InputError(
                f"{printable(str(folder / name))}: cannot be read ({error.strerror}), expected all"
                " files of the binary archive; extract it again"
            ) from error
    return contents


def _from_archive(path: Path, form: BinaryForm, wanted: tuple[str, ...]) -> dict[str, bytes]:
    """Read members by their exact names in memory; nothing is extracted."""
    places = {f"{form.folder}/{name}": name for name in wanted}
    limit = _MAX_RECORDS * (form.label_bytes + _PIXEL_BYTES)
    contents: dict[str, bytes] = {}
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                name = places.get(member.name.removeprefix("./"))
                if name is None or name in contents or not member.isreg() or member.size > limit:
                    continue
                file = archive.extractfile(member)
                assert file is not None, member.name  # a regular file has content
                contents[name] = file.read()
            while stream.read(_CHUNK_BYTES):  # the checksum comes last
                pass
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise InputError(
            f"{printable(str(path))}: cannot be read ({printable(str(error))}), expected the whole"
            f" archive; fetch it again from {form.url}"
        ) from error
    missing = [name for name in wanted if name not in contents]
    if missing:
        raise InputError(
            f"{printable(str(path))}: lacks {missing[0]}, expected the binary version of"
            f" {form.name}; fetch it again from {form.url}"
        )
    return {name: contents[name] for name in wanted}
