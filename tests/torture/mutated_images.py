"""Damaged image files: decoded or refused, in a second and in 300 MB.

The time is the processor's, for the machine is busy; the memory is what one image adds at its peak.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from linear_eval.datasets.decode import BadImageError, decode_image
from linear_eval.datasets.decoding import Decoding
from linear_eval.datasets.image_formats import HAS_AVIF
from tests.torture.mutants import mutant
from tests.torture.row import Row, Trials, Tried, chance_of

_MAX_SECONDS, _MAX_MIB = 1.0, 300
_ASKED = (Decoding(), Decoding(orientation="exif"), Decoding(white_level=4095))


def _prepare(folder: Path) -> Trials:
    del folder
    sound = [(name, content) for name, content in _images()]
    for name, content in sound:
        decode_image(content, name)

    def trial(number: int) -> Tried:
        chance = chance_of("images", number)
        name, content = chance.choice(sound)
        if chance.random() < 0.1:  # the head of one, the rest of another
            other = chance.choice(sound)[1]
            content = content[: chance.randrange(len(content))] + other[chance.randrange(64) :]
        damaged = mutant(content, chance)
        return _decoded(name, damaged, chance.choice(_ASKED))

    return Trials(trial)


def _decoded(name: str, content: bytes, decoding: Decoding) -> Tried:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, started = _peak_mib(), time.process_time()
    bad, refused = [], 0
    try:
        image = decode_image(content, name, decoding)
        if image.shape[0] != 3 or image.numel() < 3:
            bad.append(f"{name}: of shape {tuple(image.shape)}")
    except BadImageError as error:
        refused = 1
        if "\n" in str(error):
            bad.append(f"{name}: {error!r}")
    except Exception as error:
        bad.append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
    seconds, mib = time.process_time() - started, _peak_mib() - before
    if seconds > _MAX_SECONDS:
        bad.append(f"{name}: {seconds:.1f} s")
    if mib > _MAX_MIB:
        bad.append(f"{name}: {mib:.0f} MiB")
    return Tried(tuple(bad), facts={"refused": refused})


def _peak_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmHWM")


def _images() -> Iterator[tuple[str, bytes]]:
    """Small ones of every format and colour mode that is written here."""
    chance = np.random.default_rng(0)
    smooth = np.linspace(0, 200, 24 * 31 * 3).reshape(24, 31, 3)
    pixels = (smooth + chance.integers(0, 50, smooth.shape)).astype(np.uint8)
    rgb = Image.fromarray(pixels)
    wide = Image.fromarray(np.asarray(rgb.convert("L"), np.uint16) * 257)
    alpha = rgb.convert("RGBA")
    alpha.putalpha(rgb.convert("L"))
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = rgb.convert("P", palette=Image.Palette.ADAPTIVE)
    yield from (
        _saved("jpeg", rgb, "JPEG"),
        _saved("jpeg progressive, exif", rgb, "JPEG", progressive=True, exif=exif.tobytes()),
        _saved("jpeg gray", rgb.convert("L"), "JPEG"),
        _saved("jpeg cmyk", rgb.convert("CMYK"), "JPEG"),
        _saved("jpeg 4:4:4, restarts", rgb, "JPEG", subsampling=0, restart_marker_rows=1),
        _saved("png", rgb, "PNG"),
        _saved("png alpha", alpha, "PNG"),
        _saved("png palette", palette, "PNG", transparency=3),
        _saved("png 16 bit", wide, "PNG"),
        _saved("png 1 bit", rgb.convert("1"), "PNG"),
        _saved("apng", rgb, "PNG", save_all=True, append_images=[alpha.convert("RGB")]),
        _saved("webp", rgb, "WEBP"),
        _saved("webp lossless, alpha", alpha, "WEBP", lossless=True),
        _saved("webp frames", rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)]),
        _saved("bmp", rgb, "BMP"),
        _saved("bmp palette", palette, "BMP"),
        _saved("dib", rgb, "DIB"),
        _saved("ppm", rgb, "PPM"),
        _saved("pgm 16 bit", wide, "PPM"),
        ("ppm text", b"P3 2 2 255 1 2 3 4 5 6 7 8 9 10 11 12\n"),
        _saved("gif", palette, "GIF"),
        _saved("gif frames", palette, "GIF", save_all=True, append_images=[palette.rotate(90)]),
        _saved("mpo", rgb, "MPO", save_all=True, append_images=[rgb]),
    )
    for how in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield _saved(f"tiff {how}", rgb, "TIFF", compression=how)
    yield _saved("tiff 16 bit, exif", wide, "TIFF", exif=exif.tobytes())
    yield _saved("tiff fax", rgb.convert("1"), "TIFF", compression="group4")
    if HAS_AVIF:
        yield _saved("avif", rgb, "AVIF")


def _saved(name: str, image: Image.Image, kind: str, **how: object) -> tuple[str, bytes]:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return name, file.getvalue()


ROW = Row(
    name="images",
    says="mutated images: uncaught, over 1 s, over 300 MB",
    prepare=_prepare,
    must=1_000_000,
    chunk=2000,
    seconds=20,
)
