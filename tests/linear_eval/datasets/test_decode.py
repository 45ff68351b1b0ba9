"""Every kind of image file becomes RGB, or an error that names it."""

import io
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from linear_eval.datasets.decode import BadImageError, decode_image
from linear_eval.datasets.image_formats import HAS_AVIF
from linear_eval.system.errors import InputError

OneLine = Callable[[BaseException], str]
SAMPLE = Path(__file__).parents[3] / "../shared/data/imagenet-sample-200.tar"


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def decoded(image: Image.Image, kind: str, **options: object) -> Tensor:
    pixels = decode_image(encoded(image, kind, **options), "test")
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, image.height, image.width)
    assert pixels.permute(1, 2, 0).is_contiguous()
    return pixels


def noise(mode: str, channels: int) -> Image.Image:
    shape = (5, 7, channels)[: 2 if channels == 1 else 3]
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Image.frombytes(mode, (7, 5), values.tobytes())


def header_only_png(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0")
    chunks = [
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_an_rgb_file_keeps_its_pixels(tmp_path: Path) -> None:
    image = noise("RGB", 3)
    expected = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    image.save(tmp_path / "image.bmp")
    assert torch.equal(decoded(image, "PNG"), expected)
    assert torch.equal(decode_image(tmp_path / "image.bmp", "image.bmp"), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM", "GIF"])
def test_gray_values_are_repeated(kind: str) -> None:
    image = noise("L", 1)
    expected = torch.from_numpy(np.array(image)).expand(3, -1, -1)
    assert torch.equal(decoded(image, kind), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_one_bit_becomes_black_and_white(kind: str) -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert decoded(image, kind)[:, 0].tolist() == [[0, 255]] * 3


@pytest.mark.parametrize(("mode", "channels"), [("LA", 2), ("RGBA", 4)])
def test_alpha_is_composited_on_white(mode: str, channels: int) -> None:
    image = noise(mode, channels)
    rgba = np.array(image.convert("RGBA")).astype(float)
    share = rgba[..., 3:] / 255
    expected = rgba[..., :3] * share + 255 * (1 - share)
    found = decoded(image, "PNG").permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() <= 1  # Pillow composites in 8-bit integers


def test_a_palette_with_transparency_is_composited_on_white() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 200, 100, 0, 0, 0, 0])
    for x in range(3):
        image.putpixel((x, 0), x)
    found = decoded(image, "PNG", transparency=bytes([255, 0, 0]))
    assert found[:, 0].T.tolist() == [[10, 20, 30], [255, 255, 255], [255, 255, 255]]
    assert decoded(image, "PNG")[:, 0].T.tolist()[1] == [200, 100, 0]
    assert decoded(image, "GIF", transparency=1)[:, 0].T.tolist()[1] == [255, 255, 255]


@pytest.mark.parametrize(("mode", "key"), [("L", 7), ("RGB", (7, 7, 7))])
def test_a_transparent_colour_becomes_white(mode: str, key: object) -> None:
    image = Image.new(mode, (2, 1), 50 if mode == "L" else (50, 50, 50))
    image.putpixel((1, 0), key)  # type: ignore[arg-type]  # int or three of them
    assert decoded(image, "PNG", transparency=key)[:, 0].T.tolist() == [[50] * 3, [255] * 3]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_the_colour_it_prints(kind: str) -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red, green, blue = (decoded(image, kind)[i].float().mean() for i in range(3))
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_a_sixteen_bit_gradient_keeps_its_whole_range(kind: str) -> None:
    values = np.linspace(0, 65535, 256).round().astype(np.uint16)
    expected = (values / 257).round().astype(np.uint8)
    found = decoded(Image.fromarray(values[None]), kind)
    assert torch.equal(found[0, 0], torch.from_numpy(expected))
    assert len(found.unique()) == 256
    assert torch.equal(found[0], found[2])


def test_a_big_endian_sixteen_bit_file_is_read_alike() -> None:
    values = np.array([[0, 300, 65535]], dtype=">u2")
    file = io.BytesIO()
    Image.frombytes("I;16B", (3, 1), values.tobytes()).save(file, "TIFF")
    assert decode_image(file.getvalue(), "test")[0, 0].tolist() == [0, 1, 255]


def test_a_transparent_sixteen_bit_value_becomes_white() -> None:
    image = Image.fromarray(np.array([[0, 300]], dtype=np.uint16))
    content = encoded(image, "PNG")
    chunk = b"tRNS" + struct.pack(">H", 0)
    chunk = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    place = content.index(b"IDAT") - 4
    found = decode_image(content[:place] + chunk + content[place:], "test")
    assert found[0, 0].tolist() == [255, 1]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_thirty_two_bit_pixels_are_refused(dtype: type, one_line: OneLine) -> None:
    content = encoded(Image.fromarray(np.ones((2, 2), dtype=dtype)), "TIFF")
    with pytest.raises(BadImageError, match=r"^depth\.tif: has 32-bit or signed pixels") as error:
        decode_image(content, "depth.tif")
    one_line(error.value)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("#ff0000", "#00ff00")]
    options = {"lossless": True} if kind == "WEBP" else {}
    found = decoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert found[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_odd_sizes_decode(size: tuple[int, int]) -> None:
    decoded(Image.new("RGB", size), "PNG")


@pytest.mark.parametrize("cut", ["half", "header", "end marker"])
def test_a_truncated_jpeg_is_refused_by_name(cut: str, one_line: OneLine) -> None:
    content = encoded(noise("RGB", 3).resize((64, 64)), "JPEG")
    length = {"half": len(content) // 2, "header": 20, "end marker": len(content) - 2}[cut]
    with pytest.raises(BadImageError, match=r"^cat/1\.jpg: cannot be decoded") as error:
        decode_image(content[:length], "cat/1.jpg")
    assert "data.on_bad_image=skip" in one_line(error.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"hello", b"<html></html>", b"%PDF-1.4", b"%!PS-Adobe-3.0 EPSF-3.0\n"],
    ids=["empty", "zero", "text", "html", "pdf", "eps"],
)
def test_what_is_no_image_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "text.jpg"
    path.write_bytes(content)
    said = r"^text\.jpg: cannot be decoded \(not recognised as an image\), expected"
    for source in (path, content):
        with pytest.raises(BadImageError, match=said):
            decode_image(source, "text.jpg")


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.jpg", tmp_path):
        with pytest.raises(BadImageError, match=r"^this one: cannot be decoded"):
            decode_image(path, "this one")


@pytest.mark.parametrize("side", [7_072, 12_000, 20_000])
def test_a_huge_image_is_refused_from_its_header(side: int) -> None:
    content = header_only_png(side, side)
    tracemalloc.start()
    with warnings.catch_warnings(record=True), pytest.raises(BadImageError, match=r"^bomb\.png: "):
        decode_image(content, "bomb.png")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_the_size_limit_is_fifty_million_pixels() -> None:
    with pytest.raises(BadImageError, match="is 10000 x 5001 pixels, expected at most 50000000"):
        decode_image(header_only_png(10_000, 5_001), "large")
    with pytest.raises(BadImageError, match="cannot be decoded"):  # the size passed, the data ends
        decode_image(header_only_png(10_000, 5_000), "large")


def test_a_huge_image_causes_no_warning_beside_the_error() -> None:
    # In a process of its own: pytest replaces the filters for warnings.
    code = (
        "import sys\n"
        "from linear_eval.datasets.decode import decode_image, BadImageError\n"
        "try:\n    decode_image(sys.stdin.buffer.read(), 'bomb')\n"
        "except BadImageError as error:\n    print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        input=header_only_png(12_000, 12_000),
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert run.stdout.startswith(b"bomb: is 12000 x 12000 pixels")
    assert run.stderr == b""


def test_a_bad_image_is_an_input_error() -> None:
    assert issubclass(BadImageError, InputError)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP", "PPM"])
def test_damaged_files_give_an_image_or_a_bad_image_error(kind: str) -> None:
    random = np.random.default_rng(0)
    content = encoded(noise("RGB", 3), kind)
    for _ in range(150):
        damaged = bytearray(content)
        for place in random.integers(0, len(damaged), 3):
            damaged[place] = random.integers(0, 256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert decode_image(bytes(damaged), "mutant").dtype == torch.uint8
            except BadImageError as error:
                assert "\n" not in str(error)


@pytest.mark.skipif(not SAMPLE.exists(), reason=f"the real images are not at {SAMPLE}")
def test_full_size_imagenet_images_decode_as_pillow_does() -> None:
    with tarfile.open(SAMPLE) as archive:
        members = [member for member in archive if member.isreg()][::6]
        modes = set()
        for member in members:
            file = archive.extractfile(member)
            assert file is not None
            content = file.read()
            image = Image.open(io.BytesIO(content))
            modes.add(image.mode)
            expected = np.array(image.convert("RGB"))
            found = decode_image(content, member.name).permute(1, 2, 0).numpy()
            assert np.array_equal(found, expected)
    assert modes == {"RGB", "L"}


@pytest.mark.skipif(not HAS_AVIF, reason="this Pillow reads no AVIF")
def test_a_damaged_avif_is_an_error_of_one_line(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (24, 31), (200, 90, 10)).save(file, "AVIF")
    content = file.getvalue()
    where = content.index(b"av01")  # the kind of the item that holds the picture
    with pytest.raises(BadImageError, match="cannot be decoded"):
        decode_image(content[:where] + b"av0x" + content[where + 4 :], "a.avif")
