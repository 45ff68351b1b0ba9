"""Every suffix that is listed is read by a parser that is allowed."""

import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from linear_eval.datasets import image_formats
from linear_eval.datasets.decode import BadImageError, decode_image
from linear_eval.datasets.image_formats import FORMATS, HEIF_SUFFIXES, image_suffixes, parsers_for

SAVED_AS = {
    **dict.fromkeys("jpg jpeg jpe jfif jif jfi".split(), "JPEG"),
    **{"mpo": "MPO", "png": "PNG", "apng": "PNG", "webp": "WEBP", "bmp": "BMP", "dib": "DIB"},
    **dict.fromkeys("ppm pgm pbm pnm".split(), "PPM"),
    **{"tif": "TIFF", "tiff": "TIFF", "gif": "GIF", "avif": "AVIF", "avifs": "AVIF"},
}


@pytest.mark.parametrize("suffix", sorted(image_suffixes() - HEIF_SUFFIXES))
def test_a_file_of_each_suffix_is_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (16, 12), (200, 40, 90)).save(path, SAVED_AS[suffix])
    pixels = decode_image(path, path.name)
    assert pixels.shape == (3, 12, 16)
    off = (pixels.float().mean((1, 2)) - torch.tensor([200.0, 40.0, 90.0])).abs()
    assert off.max() < 8


def test_formats_of_other_programs_are_not_tried() -> None:
    assert not {"EPS", "PDF", "PSD", "FITS", "WMF", "HEIF"} & set(FORMATS)
    assert parsers_for(io.BytesIO(b"%!PS-Adobe-3.0 EPSF-3.0")) == FORMATS


HEIC_HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40


def test_heif_without_its_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_formats, "has_heif", lambda: False)
    with pytest.raises(BadImageError, match=r"x.jpg: is a HEIF image.*ssl-bf\[photos\]"):
        decode_image(HEIC_HEAD, "x.jpg")
    avif = b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif" + b"\0" * 40
    assert parsers_for(io.BytesIO(avif)) == FORMATS


def test_heif_is_read_with_its_extra(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    path = tmp_path / "photo.heic"
    Image.new("RGB", (64, 48), (200, 40, 90)).save(path, "HEIF")
    assert image_suffixes() >= HEIF_SUFFIXES
    assert decode_image(path, path.name).shape == (3, 48, 64)
