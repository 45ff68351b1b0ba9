import hashlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import linear_eval
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decode import BadImageError
from linear_eval.features import stored_writer as feature_writer
from linear_eval.features.store import FeatureStore, FeatureStoreConfig, StoreKey
from linear_eval.features.table import collect_features
from linear_eval.images.batches import EvalImages, ImageBatches
from linear_eval.images.train_views import TrainView
from linear_eval.system.errors import InputError

COUNT = 23
KEY = StoreKey(weights="w", transform=EvalImages(), data="f", dtype="float32")


def _image(index: int) -> Tensor:
    generator = torch.Generator().manual_seed(index)
    return torch.randint(0, 256, (3, 8, 8), generator=generator, dtype=torch.uint8)


def _batches(bad: tuple[int, ...] = (), **changes: Any) -> ImageBatches:
    def read(index: int) -> Tensor:
        if index in bad:
            raise BadImageError(f"image_{index}: broken")
        return _image(index)

    split = ImageSplit(
        ids=tuple(f"image_{i}" for i in range(COUNT)),
        labels=torch.arange(COUNT) % 3,
        class_names=("a", "b", "c"),
        read=read,
        fingerprint="f",
    )
    settings: dict[str, Any] = {"images": EvalImages(), "batch_size": 4}
    return ImageBatches(split=split, **{**settings, "on_bad_image": "skip", **changes})


class _Embed:
    """Features (N, 6) of images; counts images, and may be interrupted before a batch."""

    def __init__(self, interrupted_at: int | None = None) -> None:
        self.interrupted_at = interrupted_at
        self.num_images: list[int] = []

    def __call__(self, images: Tensor) -> Tensor:
        if len(self.num_images) == self.interrupted_at:
            raise KeyboardInterrupt
        self.num_images.append(len(images))
        return images.double().flatten(1)[:, :6] / 7 - 3


def _never(images: Tensor) -> Tensor:
    raise AssertionError("nothing may be computed here")


def _store(folder: Path, **changes: Any) -> FeatureStore:
    return FeatureStore(folder=folder, **changes)


def _tables(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


@pytest.mark.parametrize("bad", [(), (0,), (5, 6, 22), (4, 5, 6, 7)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_hit_equals_a_miss_equals_no_store(
    tmp_path: Path, bad: tuple[int, ...], dtype: Any
) -> None:
    expected = collect_features(_Embed(), _batches(bad), dtype=dtype)
    miss = _store(tmp_path, dtype=dtype).table("w", _Embed(), _batches(bad))
    unreadable = _batches(tuple(range(COUNT)))
    hit = _store(tmp_path, dtype=dtype).table("w", _never, unreadable)
    nowhere = FeatureStore(folder=None, dtype=dtype).table("w", _Embed(), _batches(bad))
    for found in (miss, hit, nowhere):
        assert found.features.dtype == getattr(torch, dtype)
        assert torch.equal(found.features, expected.features)
        assert torch.equal(found.labels, expected.labels)
        assert found.ids == expected.ids
    assert (miss.read_from, hit.read_from, nowhere.read_from) == (None, tmp_path, None)


@pytest.mark.filterwarnings("error")
def test_features_are_a_file_in_memory_that_writing_does_not_change(tmp_path: Path) -> None:
    _store(tmp_path).table("w", _Embed(), _batches())
    first = _store(tmp_path).table("w", _never, _batches())
    before = first.features.clone()
    first.features.zero_()
    assert torch.equal(_store(tmp_path).table("w", _never, _batches()).features, before)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "v"},
        {"transform": EvalImages(resize=9)},
        {"transform": EvalImages(resize=9, crop=9)},
        {"transform": TrainView(size=9)},
        {"transform": TrainView(size=9, seed=1)},
        {"transform": TrainView(size=9, epoch=1)},
        {"data": "g"},
        {"dtype": "float16"},
        {"layer": "layer3"},
    ],
)
def test_every_ingredient_of_the_key_changes_the_digest(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert replace(KEY).digest() == KEY.digest()
    assert replace(KEY, **change).digest() != KEY.digest()
    others = [
        replace(KEY, transform=TrainView(size=9, seed=s, epoch=e)).digest()
        for s in (0, 1)
        for e in (0, 1)
    ]
    assert len(set(others)) == 4
    before = KEY.digest()
    monkeypatch.setattr("linear_eval.features.store.FORMAT_VERSION", 99)
    assert KEY.digest() != before


def test_other_weights_images_or_data_are_other_features(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.table("w", _Embed(), _batches())
    other_split = replace(_batches().split, fingerprint="g")
    for weights, batches in (
        ("v", _batches()),
        ("w", _batches(images=EvalImages(resize=9))),
        ("w", replace(_batches(), split=other_split)),
    ):
        embed = _Embed()
        assert store.table(weights, embed, batches).read_from is None
        assert sum(embed.num_images) == COUNT
    assert len(_tables(tmp_path)) == 4


def _flip_data(place: Path) -> None:
    content = bytearray((place / "features.bin").read_bytes())
    content[100] ^= 4
    (place / "features.bin").write_bytes(content)


def _truncate_data(place: Path) -> None:
    os.truncate(place / "features.bin", 100)


def _flip_manifest(place: Path) -> None:
    content = bytearray((place / "manifest.jsonl").read_bytes())
    content[20] ^= 1
    (place / "manifest.jsonl").write_bytes(content)


def _lose_the_end(place: Path) -> None:
    lines = (place / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    (place / "manifest.jsonl").write_bytes(b"".join(lines[:-1]))


def _take_anothers(place: Path) -> None:
    other = place.with_name("other")
    _store(other).table("v", _Embed(), _batches())
    next(iter(_tables(other))).rename(other / "moved")
    for name in ("features.bin", "manifest.jsonl"):
        (other / "moved" / name).replace(place / name)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_flip_data, "only the first 0 of 23 images are sound"),
        (_truncate_data, "only the first 0 of 23 images are sound"),
        (_flip_manifest, "its manifest belongs to other features, or is damaged"),
        (_lose_the_end, "only the first 23 of 23"),
        (_take_anothers, "its manifest belongs to other features, or is damaged"),
        (lambda place: (place / "features.bin").unlink(), "features.bin is missing"),
        (lambda place: (place / "manifest.jsonl").unlink(), "manifest.jsonl is missing"),
    ],
)
def test_what_is_damaged_or_foreign_is_computed_again_and_said_so(
    tmp_path: Path,
    damage: Callable[[Path], None],
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = _store(tmp_path / "features")
    expected = store.table("w", _Embed(), _batches()).features.clone()
    (place,) = _tables(tmp_path / "features")
    damage(place)
    capsys.readouterr()
    embed = _Embed()
    found = store.table("w", embed, _batches())
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{place}: computed again, because {reason}" in said
    assert sum(embed.num_images) == COUNT
    assert torch.equal(found.features, expected)
    assert torch.equal(store.table("w", _never, _batches()).features, expected)
    assert capsys.readouterr().err == ""


def test_other_labels_or_names_under_one_fingerprint_are_noticed(tmp_path: Path) -> None:
    _store(tmp_path).table("w", _Embed(), _batches())
    split = replace(_batches().split, labels=torch.zeros(COUNT, dtype=torch.int64))
    found = _store(tmp_path).table("w", _Embed(), replace(_batches(), split=split))
    assert found.read_from is None
    assert found.labels.tolist() == [0] * COUNT


@pytest.mark.parametrize("bad", [(), (1, 9, 10, 11, 12, 21)])
@pytest.mark.parametrize("views", [False, True])
def test_an_interrupted_extraction_goes_on_and_equals_one_that_was_not(
    tmp_path: Path, bad: tuple[int, ...], views: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def extract(folder: Path, embed: _Embed) -> Tensor:
        if not views:
            return _store(folder).table("w", embed, _batches(bad)).features
        tables = _store(folder).view_tables("w", embed, _batches(bad), size=5, passes=2, seed=3)
        return torch.stack([table.features for table in tables])

    whole = _Embed()
    expected = extract(tmp_path / "whole", whole)
    done: list[int] = []
    for interrupted_at in (2, 0, 3):  # the second time before anything new was computed
        embed = _Embed(interrupted_at)
        with pytest.raises(KeyboardInterrupt):
            extract(tmp_path / "parts", embed)
        done += embed.num_images
    last = _Embed()
    found = extract(tmp_path / "parts", last)
    assert torch.equal(found, expected)
    assert done + last.num_images == whole.num_images
    assert "going on behind image 8 of 23" in capsys.readouterr().err
    files = [
        sorted(
            (path.relative_to(folder).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest())
            for path in folder.rglob("features.bin")
        )
        for folder in (tmp_path / "whole", tmp_path / "parts")
    ]
    assert files[0] == files[1]
    assert not [path for path in (tmp_path / "parts").iterdir() if path.name.startswith(".")]


def test_a_killed_extraction_loses_what_was_not_sealed_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_writer, "BLOCK_BYTES", 1)
    with pytest.raises(KeyboardInterrupt):
        _store(tmp_path).table("w", _Embed(3), _batches())
    (partial,) = tmp_path.iterdir()
    with (partial / "features.bin").open("ab") as file:
        file.write(b"rows that no line of the manifest knows")
    embed = _Embed()
    found = _store(tmp_path).table("w", embed, _batches())
    assert sum(embed.num_images) == COUNT - 12
    assert torch.equal(found.features, collect_features(_Embed(), _batches()).features)


def test_an_unfinished_table_of_another_key_is_not_gone_on_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for weights in ("v", "w"):
        with pytest.raises(KeyboardInterrupt):
            _store(tmp_path).table(weights, _Embed(2), _batches())
    names = {
        weights: f".{replace(KEY, weights=weights).digest()}.partial" for weights in ("v", "w")
    }
    (tmp_path / names["w"]).rename(tmp_path / "aside")
    (tmp_path / names["v"]).rename(tmp_path / names["w"])
    embed = _Embed()
    _store(tmp_path).table("w", embed, _batches())
    assert sum(embed.num_images) == COUNT
    assert "begun again, because its manifest belongs to other features" in capsys.readouterr().err


def test_a_table_without_bad_images_serves_only_who_permits_that(tmp_path: Path) -> None:
    store = _store(tmp_path)
    skipping = store.table("w", _Embed(), _batches((5,)))
    assert len(skipping.ids) == COUNT - 1
    with pytest.raises(BadImageError, match="image_5: broken"):
        store.table("w", _Embed(), _batches((5,), on_bad_image="error"))
    assert store.table("w", _never, _batches((5,))).ids == skipping.ids
    mended = store.table("w", _Embed(), _batches(on_bad_image="error"))
    assert len(mended.ids) == COUNT
    assert store.table("w", _never, _batches()).ids == mended.ids


@pytest.mark.parametrize("folder", ["features", None])
@pytest.mark.parametrize(
    ("value", "dtype", "said"),
    [
        (float("nan"), "float32", "features: 1 of the 4 images .* first is 'image_9'"),
        (float("inf"), "float16", "features: 1 of the 4 images .* first is 'image_9'"),
        (65536.0, "float16", "float16 ends at 65504.*'image_9'; set features.dtype=float32"),
        (-65520.0, "float16", "float16 ends at 65504.*'image_9'; set features.dtype=float32"),
    ],
)
def test_values_that_cannot_be_kept_are_named(
    tmp_path: Path, folder: str | None, value: float, dtype: Any, said: str
) -> None:
    def embed(images: Tensor) -> Tensor:
        features = _Embed()(images)
        features[(images == _image(9)).all(dim=(1, 2, 3)), 3] = value
        return features

    store = FeatureStore(folder=tmp_path / folder if folder else None, dtype=dtype)
    with pytest.raises(InputError, match=said):
        store.table("w", embed, _batches())


def test_the_largest_halves_are_kept(tmp_path: Path) -> None:
    table = _store(tmp_path, dtype="float16").table(
        "w", lambda images: torch.full((len(images), 2), 65504.0), _batches()
    )
    assert table.features.unique().tolist() == [65504.0]


def test_an_extraction_that_fails_at_once_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the 23 images could be read"):
        _store(tmp_path / "features").table("w", _Embed(), _batches(tuple(range(COUNT))))
    with pytest.raises(KeyboardInterrupt):
        _store(tmp_path / "features").table("w", _Embed(0), _batches())
    assert list(tmp_path.iterdir()) == []


def test_views_are_stored_pass_by_pass(tmp_path: Path) -> None:
    batches = _batches((3,))
    tables = _store(tmp_path).view_tables("w", _Embed(), batches, size=5, passes=3, seed=2)
    for epoch, table in enumerate(tables):
        view = TrainView(size=5, seed=2, epoch=epoch)
        images = torch.stack([view.apply(_image(i), f"image_{i}") for i in range(COUNT) if i != 3])
        assert torch.equal(table.features, _Embed()(images).float())
        assert table.ids is tables[0].ids
        assert table.labels.tolist() == [i % 3 for i in range(COUNT) if i != 3]
    more = _Embed()
    again = _store(tmp_path).view_tables("w", more, batches, size=5, passes=4, seed=2)
    assert sum(more.num_images) == COUNT - 1
    assert all(torch.equal(a.features, b.features) for a, b in zip(tables, again, strict=False))


def test_an_image_that_one_pass_cannot_read_is_an_error(tmp_path: Path) -> None:
    _store(tmp_path).view_tables("w", _Embed(), _batches(), size=5, passes=1)
    with pytest.raises(InputError, match="pass 2 could read 22 images and the first pass 23"):
        _store(tmp_path).view_tables("w", _Embed(), _batches((3,)), size=5, passes=2)


def test_features_lie_beside_the_file_or_where_asked_or_nowhere(tmp_path: Path) -> None:
    backbone = tmp_path / "b.safetensors"
    assert FeatureStoreConfig().open(backbone).folder == tmp_path / "features"
    assert FeatureStoreConfig().open(None).folder is None
    assert FeatureStoreConfig(folder="none").open(backbone).folder is None
    config = FeatureStoreConfig(folder=str(tmp_path / "mine"), dtype="float16")
    for file in (backbone, None):
        assert config.open(file).folder == tmp_path / "mine"
        assert config.open(file).dtype == "float16"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="^folder: is empty"):
        FeatureStoreConfig(folder="")


def test_a_folder_that_cannot_be_made_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^features.folder: .*file/deep: cannot be written to"):
        FeatureStoreConfig(folder=str(tmp_path / "file" / "deep")).open(None)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, of which pages of 4 KiB are given out."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs the rights of root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_one_line_and_the_extraction_goes_on_once_there_is_room(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(feature_writer, "BLOCK_BYTES", 1)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(40 * 1024))

    def embed(images: Tensor) -> Tensor:
        return images.float().flatten(1).repeat(1, 4)  # 3 KiB an image

    with pytest.raises(InputError, match=r"cannot be stored \(No space left on device\)") as error:
        _store(small_disk / "features").table("w", embed, _batches())
    assert "\n" not in str(error.value)
    assert _tables(small_disk / "features") == []
    ballast.unlink()
    with pytest.raises(InputError, match="No space left"):  # 69 KiB do not fit at all
        _store(small_disk / "features").table("w", embed, _batches())
    assert "going on behind image 4 of 23" in capsys.readouterr().err
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    found = _store(small_disk / "features").table("w", embed, _batches()).features.clone()
    assert "going on behind image 20 of 23" in capsys.readouterr().err
    assert torch.equal(found, collect_features(embed, _batches()).features)


def test_a_read_only_folder_can_be_read_and_is_done_without_where_nobody_asked_for_it(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (small_disk / "b.safetensors").write_text("")
    _store(small_disk / "features").table("w", _Embed(), _batches())
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    store = FeatureStoreConfig().open(small_disk / "b.safetensors")
    assert store.table("w", _never, _batches()).read_from == small_disk / "features"
    expected = collect_features(_Embed(), _batches())
    assert torch.equal(store.table("v", _Embed(), _batches()).features, expected.features)
    assert "cannot be written to, nothing is kept" in capsys.readouterr().err
    with pytest.raises(InputError, match="^features.folder: .* cannot be written to"):
        FeatureStoreConfig(folder=str(small_disk / "features")).open(None)
    with pytest.raises(InputError, match="cannot be stored .*Read-only"):
        _store(small_disk / "features").table("v", _Embed(), _batches())


EXTRACT = """\
    import sys, time
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from test_store import _Embed, _batches, _store
    class Slow(_Embed):
        def __call__(self, images):
            time.sleep(0.1)
            return super().__call__(images)
    print("ready", flush=True)
    sys.stdin.readline()
    embed = Slow()
    table = _store(Path(sys.argv[1])).table("w", embed, _batches((2,)))
    print(len(embed.num_images), float(table.features.double().sum()))
"""


@pytest.mark.dist
def test_two_processes_compute_the_same_features_once(tmp_path: Path) -> None:
    root = Path(linear_eval.__file__).parents[1]
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                textwrap.dedent(EXTRACT),
                str(tmp_path),
                str(Path(__file__).parent),
            ],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    calls = sorted(int(out.split()[0]) for out, _ in said)
    assert calls == [0, 6]
    assert len({out.split()[1] for out, _ in said}) == 1
    waited = "".join(err for _, err in said)
    assert waited.count("waiting for another process to compute it") == 1
    assert waited.count("\n") == 1
    assert len(list(tmp_path.iterdir())) == 1
