"""EXIF orientation against Pillow's own. Run: pytest THIS_FILE."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from linear_eval.datasets import ImageFolderConfig, TinyImagenetConfig
from linear_eval.datasets.decode import decode_image
from linear_eval.datasets.decoding import Decoding

UPRIGHT = Decoding(orientation="exif")
FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
}


def picture() -> Image.Image:
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (12, 20, 3), dtype=np.uint8))


def file_of(orientation: int, form: str, image: Image.Image | None = None) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    (image or picture()).save(file, form, exif=exif, **FORMATS[form])
    return file.getvalue()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_pillow_turns_them(form: str, orientation: int) -> None:
    content = file_of(orientation, form)
    with Image.open(io.BytesIO(content)) as image:
        expected = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    assert torch.equal(
        decode_image(content, "x", UPRIGHT), torch.from_numpy(expected).permute(2, 0, 1)
    )


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_stored_images_stay_as_they_lie_in_the_file(form: str) -> None:
    assert torch.equal(
        decode_image(file_of(6, form), "x"), decode_image(file_of(1, form), "x", UPRIGHT)
    )


def test_both_ways_of_decoding_a_jpeg_turn_it_alike() -> None:
    content = file_of(8, "JPEG")
    cut = content[:-2] + b"\xff\xd9 "  # a byte behind its end: Pillow's way
    assert torch.equal(decode_image(content, "x", UPRIGHT), decode_image(cut, "x", UPRIGHT))


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_numbers_without_meaning_turn_nothing(orientation: int) -> None:
    assert decode_image(file_of(orientation, "PNG"), "x", UPRIGHT).shape == (3, 12, 20)


@pytest.mark.parametrize("damaged", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\xff", b"Exif\0\0"])
def test_damaged_exif_data_make_no_image_bad(damaged: bytes) -> None:
    file = io.BytesIO()
    picture().save(file, "JPEG", exif=damaged)
    assert decode_image(file.getvalue(), "x", UPRIGHT).shape == (3, 12, 20)


def test_own_folders_are_upright_and_published_sets_as_stored(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        (tmp_path / split / "a" / "1.png").write_bytes(file_of(6, "PNG"))
    own = ImageFolderConfig(root=str(tmp_path))
    assert own.open_train().read(0).shape == (3, 20, 12)
    assert TinyImagenetConfig(root=str(tmp_path)).open_test().read(0).shape == (3, 12, 20)


def test_orientation_is_part_of_the_identity_of_pixels_and_stored_is_that_of_before(
    tmp_path: Path,
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(file_of(6, "PNG"))
    upright = ImageFolderConfig(root=str(tmp_path)).open_train()
    stored = ImageFolderConfig(root=str(tmp_path), orientation="stored").open_train()
    assert upright.fingerprint == stored.fingerprint == stored.pixel_fingerprint
    assert upright.pixel_fingerprint != stored.pixel_fingerprint
    part = upright.select(torch.tensor([0]))
    assert part.decoding == "data.orientation=exif"
