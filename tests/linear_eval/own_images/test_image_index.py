"""An index on disk: whole, checked, or refused."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from linear_eval.features.rows import unit_rows
from linear_eval.own_images import image_index
from linear_eval.own_images.image_index import (
    ImageIndex,
    IndexManifest,
    check_index_output,
    read_index,
    write_index,
)
from linear_eval.search.faiss_index import build_index, write_faiss
from linear_eval.system.errors import InputError

pytest.importorskip("faiss", reason="faiss is not installed")

IDS = ("a/1.png", "k\u00e4tzchen/\u732b.png", "bad\udcff.png")
ROWS = unit_rows(torch.eye(3) + 0.1)


def write(output: Path, ids: tuple[str, ...] = IDS) -> None:
    manifest = IndexManifest(
        kind="flat",
        rows=3,
        width=3,
        recall_at_10=None,
        backbone={"path": "/b", "sha256": "0" * 64, "architecture": "small_conv"},
        images={"resize": 32, "crop": 32, "pixels": [32, 32]},
        data={"name": "image_folder", "split": "train", "fingerprint": "f"},
        files={},
    )
    index = build_index(ROWS, "flat")
    write_index(output, ImageIndex(index, Path("/photos"), ids, None, manifest))


@pytest.fixture
def index(tmp_path: Path) -> Path:
    write(tmp_path / "index")
    return tmp_path / "index"


def test_a_written_index_is_read_back(tmp_path: Path, index: Path) -> None:
    found = read_index(index)
    assert found.ids == IDS
    assert found.path_of(1) == Path("/photos/k\u00e4tzchen/\u732b.png")
    assert found.manifest.rows == 3
    assert found.manifest.metric == "cosine"
    scores, rows = found.search(ROWS, 2)
    assert rows[:, 0].tolist() == [0, 1, 2]
    torch.testing.assert_close(scores[:, 0], torch.ones(3))
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_images_that_are_no_files_have_no_path(index: Path) -> None:
    found = read_index(index)
    assert ImageIndex(found.index, None, IDS, None, found.manifest).path_of(0) is None


@pytest.mark.parametrize("k", [0, 4, -1])
def test_more_neighbours_than_images_are_refused(index: Path, k: int) -> None:
    with pytest.raises(InputError, match=rf"^--k: {k} neighbours out of 3 indexed images"):
        read_index(index).search(ROWS, k)


@pytest.mark.parametrize("name", ["index.faiss", "ids.json"])
def test_a_truncated_file_is_named(index: Path, name: str) -> None:
    content = (index / name).read_bytes()
    (index / name).write_bytes(content[:-7])
    with pytest.raises(InputError, match=rf"{name}: is truncated or damaged"):
        read_index(index)
    (index / name).unlink()
    with pytest.raises(InputError, match=rf"{name}: cannot be read"):
        read_index(index)


def test_a_folder_that_is_no_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no manifest.json, expected an index"):
        read_index(tmp_path)
    for others in ({"format_version": 1, "files": {}}, ["rows"], {}):
        (tmp_path / "manifest.json").write_text(json.dumps(others))
        with pytest.raises(InputError, match=r"^\S+: its manifest.json is not that of an"):
            read_index(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full, of Linux")
def test_a_full_disk_is_told_of_in_one_line_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_a_full_disk(index: Any, path: Path) -> None:
        write_faiss(index, Path("/dev/full"))

    monkeypatch.setattr(image_index, "write_faiss", on_a_full_disk)
    said = rf"^{tmp_path}/index: cannot be written \(No space left on device\); give a path"
    with pytest.raises(InputError, match=said):
        write(tmp_path / "index")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format_version": 2}, "is of format version 2, expected 1"),
        ({"more": 1}, "expected 1 with its keys"),
        ({"rows": 4}, "3 rows of 3 numbers and 3 names, expected 4 of 3"),
        (None, "is damaged"),
    ],
)
def test_a_manifest_that_does_not_fit_is_described(
    index: Path, change: dict[str, Any] | None, said: str
) -> None:
    path = index / "manifest.json"
    text = path.read_text()
    path.write_text(text[:50] if change is None else json.dumps(json.loads(text) | change))
    with pytest.raises(InputError, match=said):
        read_index(index)


def test_an_index_is_replaced_whole(tmp_path: Path, index: Path) -> None:
    write(index, ("x", "y", "z"))
    assert read_index(index).ids == ("x", "y", "z")
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_failure_leaves_the_old_index_and_nothing_else(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(InputError, match=r"index: cannot be written .No space left on device"):
        write(index, ("x", "y", "z"))
    assert read_index(index).ids == IDS
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_the_old_index_comes_back_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuse_the_new_one(path: Path, target: Path) -> Path:
        if path.name.startswith(".tmp-"):
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new_one)
    with pytest.raises(InputError, match=r"index: cannot be written"):
        write(index, ("x", "y", "z"))
    assert read_index(index).ids == IDS
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_an_existing_folder_is_refused_or_must_be_an_index(tmp_path: Path, index: Path) -> None:
    check_index_output(tmp_path / "new", False)
    check_index_output(index, True)
    with pytest.raises(InputError, match="index exists already; give another path or --overwrite"):
        check_index_output(index, False)
    (index / "holiday.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="exists and is more than an index"):
        check_index_output(index, True)
    with pytest.raises(InputError, match="gone: no such folder"):
        check_index_output(tmp_path / "gone" / "new", False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_parent_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written .Permission denied"):
        check_index_output(tmp_path / "new", False)


def test_a_place_where_nothing_can_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--output: .* cannot be written .File name too long"):
        check_index_output(tmp_path / ("x" * 250), False)
