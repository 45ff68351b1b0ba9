"""Features on the disk and the images that they were made from. Run: pytest THIS_FILE.

Bitmaps of one height and width have one size, so only what they hold tells them apart.
"""

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from linear_eval.datasets import ImageFolderConfig, contents
from linear_eval.datasets.contents import FileContents
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.features.store import FeatureStore
from linear_eval.features.table import FeatureTable, collect_features
from linear_eval.images.batches import EvalImages, ImageBatches
from linear_eval.system.errors import InputError

LONG_AGO = 1_600_000_000 * 10**9


def write(path: Path, number: int, *, time_ns: int | None = None) -> None:
    """A bitmap of 4 x 4 pixels that depends on a number."""
    generator = torch.Generator().manual_seed(number)
    pixels = torch.randint(0, 256, (4, 4, 3), generator=generator, dtype=torch.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.numpy()).save(path)
    if time_ns is not None:
        os.utime(path, ns=(time_ns, time_ns))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(12):
        name = f"{'ab'[number % 2]}/{number:02d}.bmp"
        write(tmp_path / "images" / name, number, time_ns=LONG_AGO + number)
    return tmp_path / "images"


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as older than they are: nobody can set the time of their last change back."""
    monkeypatch.setattr(contents, "_YOUNG_NS", 0)


class Embed:
    """Features (N, 5) that tell the images; counts them, and may be interrupted."""

    def __init__(self, interrupted_at: int | None = None) -> None:
        self.count = 0
        self.interrupted_at = interrupted_at

    def __call__(self, images: Tensor) -> Tensor:
        if self.interrupted_at is not None and self.count >= self.interrupted_at:
            raise KeyboardInterrupt
        self.count += len(images)
        return images.float().flatten(1)[:, :5]


def split_of(root: Path) -> ImageSplit:
    return ImageFolderConfig(root=str(root)).open_train()


def batches(split: ImageSplit) -> ImageBatches:
    return ImageBatches(split=split, images=EvalImages(), batch_size=4, on_bad_image="skip")


def table(store: Path, root: Path, embed: Embed | None = None) -> FeatureTable:
    return FeatureStore(folder=store).table("w", embed or Embed(), batches(split_of(root)))


def fresh(root: Path) -> Tensor:
    return collect_features(Embed(), batches(split_of(root))).features


def swap(a: Path, b: Path) -> None:
    middle = a.with_name("middle")
    a.rename(middle)
    b.rename(a)
    middle.rename(b)


def test_swapped_images_of_one_size_are_looked_at_again(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = table(tmp_path / "store", root).features.clone()
    swap(root / "a" / "00.bmp", root / "b" / "01.bmp")
    after = table(tmp_path / "store", root).features
    assert not torch.equal(before, after)
    assert torch.equal(after, fresh(root))
    said = capsys.readouterr().err
    assert "2 of 12 images have other contents now (a/00.bmp, b/01.bmp)" in said


def test_swapped_images_with_equal_times_are_noticed_by_their_number_on_the_disk(
    tmp_path: Path, root: Path
) -> None:
    for path in root.rglob("*.bmp"):
        os.utime(path, ns=(LONG_AGO, LONG_AGO))  # as archives unpack them
    table(tmp_path / "store", root)
    swap(root / "a" / "00.bmp", root / "b" / "01.bmp")
    assert torch.equal(table(tmp_path / "store", root).features, fresh(root))


def test_an_image_written_again_at_once_is_noticed(tmp_path: Path, root: Path) -> None:
    path = root / "a" / "00.bmp"
    write(path, 100)
    time_ns = path.stat().st_mtime_ns
    table(tmp_path / "store", root)
    write(path, 101, time_ns=time_ns)  # the clock of the file system has not moved on
    assert torch.equal(table(tmp_path / "store", root).features, fresh(root))


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("change", ["touched", "copied", "moved"])
def test_the_same_images_elsewhere_or_touched_are_not_looked_at_again(
    tmp_path: Path, root: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = table(tmp_path / "store", root).features.clone()
    if change == "touched":
        for path in root.rglob("*.bmp"):
            os.utime(path, ns=(LONG_AGO - 5, LONG_AGO - 5))
    else:
        (shutil.copytree if change == "copied" else shutil.move)(root, tmp_path / "elsewhere")
        root = tmp_path / "elsewhere"
        for path in root.rglob("*.bmp"):
            os.utime(path, ns=(LONG_AGO + 9, LONG_AGO + 9))
    embed = Embed()
    assert torch.equal(table(tmp_path / "store", root, embed).features, expected)
    assert embed.count == 0
    monkeypatch.setattr(FileContents, "_read_digest", None)  # nothing is read the second time
    assert torch.equal(table(tmp_path / "store", root, embed).features, expected)
    assert embed.count == 0


@pytest.mark.usefixtures("settled")
def test_equal_stamps_are_trusted(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = table(tmp_path / "store", root).features.clone()
    monkeypatch.setattr(FileContents, "_read_digest", None)  # nothing is read
    assert torch.equal(table(tmp_path / "store", root).features, before)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("by", ["program", "cp -p"])
def test_a_file_written_over_with_its_time_put_back_is_noticed(
    tmp_path: Path, root: Path, by: str
) -> None:
    for path in root.rglob("*.bmp"):
        os.utime(path, ns=(LONG_AGO, LONG_AGO))  # as archives unpack them
    path, other = root / "a" / "00.bmp", root / "b" / "01.bmp"
    table(tmp_path / "store", root)
    before = path.stat()
    if by == "cp -p":
        shutil.copy2(other, path)
    else:
        content = path.read_bytes()
        with path.open("r+b") as file:
            file.write(content[:-8] + b"\7" * 8)
        os.utime(path, ns=(LONG_AGO, LONG_AGO))
    now = path.stat()
    assert (now.st_size, now.st_mtime_ns, now.st_ino) == (before.st_size, LONG_AGO, before.st_ino)
    assert torch.equal(table(tmp_path / "store", root).features, fresh(root))


def test_stamps_of_an_earlier_version_cost_one_reading(tmp_path: Path, root: Path) -> None:
    expected = table(tmp_path / "store", root).features.clone()
    (place,) = (tmp_path / "store").iterdir()
    stamps = np.frombuffer((place / "stamps.bin").read_bytes(), dtype=np.int64).reshape(-1, 4)
    (place / "stamps.bin").write_bytes(np.ascontiguousarray(stamps[:, :3]).tobytes())
    embed = Embed()
    assert torch.equal(table(tmp_path / "store", root, embed).features, expected)
    assert embed.count == 0
    assert len((place / "stamps.bin").read_bytes()) == stamps.nbytes


def test_a_table_of_an_earlier_version_is_read_but_not_called_checked(
    tmp_path: Path, root: Path
) -> None:
    split = split_of(root)
    object.__setattr__(split, "contents", None)  # what an earlier version knew
    store = FeatureStore(folder=tmp_path / "store")
    expected = store.table("w", Embed(), batches(split)).features.clone()
    embed = Embed()
    found = table(tmp_path / "store", root, embed)
    assert torch.equal(found.features, expected)
    assert embed.count == 0
    assert not found.is_checked
    assert table(tmp_path / "other", root).is_checked


@pytest.mark.parametrize("changed", ["done", "to come"])
def test_an_interrupted_extraction_goes_on_with_the_images_that_are_still_the_same(
    tmp_path: Path, root: Path, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linear_eval.features.stored_writer.BLOCK_BYTES", 1)
    with pytest.raises(KeyboardInterrupt):
        table(tmp_path / "store", root, Embed(interrupted_at=8))
    write(root / ("a/08.bmp" if changed == "done" else "b/11.bmp"), 99)  # rows 4 and 11
    embed = Embed()
    found = table(tmp_path / "store", root, embed).features
    assert torch.equal(found, fresh(root))
    assert embed.count == (8 if changed == "done" else 4)


def test_damaged_digests_are_not_believed(tmp_path: Path, root: Path) -> None:
    table(tmp_path / "store", root)
    (place,) = (tmp_path / "store").iterdir()
    content = bytearray((place / "digests.bin").read_bytes())
    content[7] ^= 1
    (place / "digests.bin").write_bytes(content)
    embed = Embed()
    assert torch.equal(table(tmp_path / "store", root, embed).features, fresh(root))
    assert embed.count == 12


def test_lost_stamps_cost_one_reading(tmp_path: Path, root: Path) -> None:
    table(tmp_path / "store", root)
    (place,) = (tmp_path / "store").iterdir()
    stamps = (place / "stamps.bin").read_bytes()
    (place / "stamps.bin").unlink()
    embed = Embed()
    table(tmp_path / "store", root, embed)
    assert embed.count == 0
    assert (place / "stamps.bin").read_bytes() == stamps


def test_an_image_that_could_not_be_read_and_is_mended_is_looked_at(
    tmp_path: Path, root: Path
) -> None:
    path = root / "a" / "00.bmp"
    whole = path.read_bytes()
    path.write_bytes(b"\0" * len(whole))
    assert len(table(tmp_path / "store", root).ids) == 11
    path.write_bytes(whole)
    assert torch.equal(table(tmp_path / "store", root).features, fresh(root))


def test_after_any_changes_the_features_are_those_of_the_images_that_there_are(
    tmp_path: Path, root: Path
) -> None:
    for seed in range(30):
        draw = random.Random(seed)
        paths = sorted(root.rglob("*.bmp"))
        for _ in range(draw.randrange(4)):
            one, other = draw.sample(paths, 2)
            time_ns = draw.choice([None, LONG_AGO, LONG_AGO + 1])
            match draw.randrange(4):
                case 0:
                    write(one, draw.randrange(10**6), time_ns=time_ns)
                    one.rename(one.with_name("new"))  # another number on the disk
                    shutil.copy2(one.with_name("new"), one)
                    one.with_name("new").unlink()
                case 1:
                    swap(one, other)
                case 2 if time_ns is not None:
                    os.utime(one, ns=(time_ns, time_ns))
                case _:
                    swap(root / "a", root / "b")
                    paths = sorted(root.rglob("*.bmp"))
        assert torch.equal(table(tmp_path / "store", root).features, fresh(root)), seed


def test_images_left_out_for_their_size_come_back_where_larger_ones_are_permitted(
    tmp_path: Path, root: Path
) -> None:
    def found(max_pixels: int) -> int:
        config = ImageFolderConfig(root=str(root), max_pixels=max_pixels, on_bad_image="skip")
        split = config.open_train()
        store = FeatureStore(folder=tmp_path / "store")
        try:
            return len(store.table("w", Embed(), batches(split)).ids)
        except InputError:  # not one can be read
            return 0

    assert [found(15), found(16), found(15), found(50_000_000)] == [0, 12, 0, 12]
