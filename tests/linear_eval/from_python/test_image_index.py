"""Searching images by an image, in memory and in the folder of the command."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import linear_eval
from linear_eval.cli import main

pytest.importorskip("faiss", reason="faiss is not installed")


def test_an_indexed_image_finds_itself(backbone_file: Path, photos: Path) -> None:
    index = linear_eval.Index.build(linear_eval.load(backbone_file), photos)
    path = min(photos.rglob("*.png"))
    for image in (path, str(path), Image.open(path)):
        first, second = index.query(image, k=2)
        assert first.path == path and first.rank == 1
        assert first.score == pytest.approx(1, abs=1e-5)
        assert second.score <= first.score
        assert not first.has_changed


def test_a_saved_index_is_that_of_the_command(
    backbone_file: Path, photos: Path, tmp_path: Path
) -> None:
    index = linear_eval.Index.build(linear_eval.load(backbone_file), photos)
    index.save(tmp_path / "ours")
    theirs = ["index", str(backbone_file), str(photos), "--output", str(tmp_path / "theirs")]
    assert main([*theirs, "features.folder=none"]) == 0
    for name in ("index.faiss", "ids.json", "manifest.json"):
        ours = (tmp_path / "ours" / name).read_bytes()
        assert ours == (tmp_path / "theirs" / name).read_bytes()
    opened = linear_eval.Index.open(tmp_path / "theirs")
    path = max(photos.rglob("*.png"))
    assert opened.query(path, k=3) == index.query(path, k=3)
    with pytest.raises(linear_eval.InputError, match="exists"):
        index.save(tmp_path / "ours")
    index.save(tmp_path / "ours", overwrite=True)


def test_images_that_are_no_files_are_named_by_number(backbone_file: Path) -> None:
    images = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8)
    index = linear_eval.Index.build(linear_eval.load(backbone_file), images)
    found = index.query(images[7], k=1)[0]
    assert (found.name, found.path) == ("7", None)


def test_k_has_bounds(backbone_file: Path) -> None:
    images = torch.zeros(2, 3, 32, 32)
    index = linear_eval.Index.build(linear_eval.load(backbone_file), images)
    with pytest.raises(linear_eval.InputError, match="3 neighbours out of 2"):
        index.query(images[0], k=3)


def test_a_module_without_a_file_cannot_be_found_again(tmp_path: Path) -> None:
    module = linear_eval.load(torch.nn.Flatten(), mean=(0, 0, 0), std=(1, 1, 1), size=4)
    index = linear_eval.Index.build(module, torch.rand(2, 3, 4, 4))
    with pytest.raises(linear_eval.InputError, match="no file"):
        index.save(tmp_path / "index")
