"""Every form of pixels against values computed by hand. Run: pytest THIS_FILE."""

import io
import struct
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from linear_eval.datasets.decode import BadImageError, decode_image
from linear_eval.datasets.decoding import Decoding

Array = np.ndarray[Any, Any]
RAMP = (np.arange(24, dtype=np.int64) * 2849).reshape(4, 6)  # 0 to 65527
BYTES = RAMP // 257
RGB = np.stack([BYTES, BYTES[::-1], BYTES[:, ::-1]], axis=-1)


def tiff(  # noqa: PLR0913 - the tags of the file, each by its name
    values: Array,
    photometric: int,
    bits: int,
    *,
    order: str = "<",
    extra: int | None = None,
    planes: int = 1,
    colours: list[int] | None = None,
    signed: bool = False,
) -> bytes:
    """An uncompressed TIFF of pixels (H, W) or (H, W, C), written tag by tag."""
    height, width = values.shape[:2]
    samples = values.shape[2] if values.ndim == 3 else 1
    laid = values if planes == 1 else np.moveaxis(values, 2, 0)
    data = np.ascontiguousarray(laid).astype(f"{order}u{bits // 8}").tobytes()
    parts = samples if planes == 2 else 1
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [bits] * samples),
        259: ("H", [1]),
        262: ("H", [photometric]),
        273: ("I", [0] * parts),
        277: ("H", [samples]),
        278: ("I", [height]),
        279: ("I", [len(data) // parts] * parts),
        284: ("H", [planes]),
    }
    if colours is not None:
        tags[320] = ("H", colours)
    if extra is not None:
        tags[338] = ("H", [extra])
    if signed:
        tags[339] = ("H", [2] * samples)
    size = {"H": 2, "I": 4}
    long = sum(size[k] * len(v) for k, v in tags.values() if size[k] * len(v) > 4)
    place = 8 + 2 + 12 * len(tags) + 4
    start = place + long
    tags[273] = ("I", [start + part * len(data) // parts for part in range(parts)])
    out, rest = struct.pack(order + "H", len(tags)), b""
    for number, (kind, entries) in sorted(tags.items()):
        raw = struct.pack(f"{order}{len(entries)}{kind}", *entries)
        out += struct.pack(order + "HHI", number, {"H": 3, "I": 4}[kind], len(entries))
        if len(raw) > 4:
            out += struct.pack(order + "I", place)
            rest, place = rest + raw, place + len(raw)
        else:
            out += raw.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return head + out + struct.pack(order + "I", 0) + rest + data


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def decoded(content: bytes, **settings: Any) -> Array:
    """(H, W, 3)."""
    return decode_image(content, "x", Decoding(**settings)).permute(1, 2, 0).numpy()


def gray(values: Array) -> Array:
    return np.repeat(values[:, :, None], 3, axis=2)


def by_hand(values: Array, white: int = 65535) -> Array:
    return gray(np.array([[min(255, round(255 * int(v) / white)) for v in row] for row in values]))


def over_white(colour: Array, alpha: Array) -> Array:
    return np.rint((colour * alpha + 255.0 * (255 - alpha)) / 255)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_gray_tiff_in_both_orders(order: str) -> None:
    assert np.array_equal(decoded(tiff(RAMP, 1, 16, order=order)), by_hand(RAMP))


def test_sixteen_bit_gray_stored_with_white_as_zero_is_no_negative() -> None:
    assert np.array_equal(decoded(tiff(65535 - RAMP, 0, 16)), by_hand(RAMP))
    assert np.array_equal(decoded(tiff(255 - BYTES, 0, 8)), gray(BYTES))


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_what_pillow_writes_of_sixteen_bits(mode: str, form: str) -> None:
    kind = ">u2" if mode.endswith("B") else "<u2"
    image = Image.frombytes(mode, (6, 4), RAMP.astype(kind).tobytes())
    assert np.array_equal(decoded(saved(image, form)), by_hand(RAMP))


def test_a_pgm_of_ten_bits_says_its_own_white() -> None:
    values = RAMP // 64
    content = b"P5 6 4 1023 " + values.astype(">u2").tobytes()
    assert np.abs(decoded(content) - by_hand(values, 1023)).max() <= 1  # Pillow's 16 bits between


@pytest.mark.parametrize("white", [1023, 4095, 40000])
def test_white_level_rescales_all_images_alike_and_cuts_what_is_brighter(white: int) -> None:
    for content in (tiff(RAMP, 1, 16), saved(Image.fromarray(RAMP.astype(np.uint16)), "PNG")):
        assert np.array_equal(decoded(content, white_level=white), by_hand(RAMP, white))
    turned = tiff(65535 - RAMP, 0, 16)
    assert np.array_equal(decoded(turned, white_level=white), by_hand(RAMP, white))


def test_sixteen_bit_colours_lose_their_lower_byte() -> None:
    wide = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1)
    for order in "<>":
        assert np.array_equal(decoded(tiff(wide, 2, 16, order=order)), wide >> 8)
    with pytest.raises(BadImageError, match="16-bit colours in separate planes"):
        decoded(tiff(wide, 2, 16, planes=2))
    with pytest.raises(BadImageError, match="data.white_level=4095 rescales gray images only"):
        decoded(tiff(wide, 2, 16), white_level=4095)


def test_a_transparent_value_of_a_sixteen_bit_png_is_white() -> None:
    image = Image.fromarray(RAMP.astype(np.uint16))
    content = saved(image, "PNG", transparency=int(RAMP[1, 2]))
    expected = by_hand(RAMP)
    expected[1, 2] = 255
    assert np.array_equal(decoded(content), expected)


@pytest.mark.parametrize("signed", [True, False])
def test_pixels_whose_range_is_not_known_are_refused(signed: bool) -> None:
    content = tiff(RAMP, 1, 16, signed=True) if signed else tiff(RAMP, 1, 32)
    with pytest.raises(BadImageError, match="32-bit or signed pixels whose range is unknown"):
        decoded(content)


def test_eight_bit_tiffs() -> None:
    assert np.array_equal(decoded(tiff(RGB, 2, 8)), RGB)
    assert np.array_equal(decoded(tiff(RGB, 2, 8, planes=2)), RGB)
    index = BYTES // 17
    table = (
        [256 * 17 * (i % 16) for i in range(256)]
        + [0] * 256
        + [256 * 5 * (i % 16) for i in range(256)]
    )
    expected = np.stack([index * 17, index * 0, index * 5], axis=-1)
    assert np.array_equal(decoded(tiff(index, 3, 8, colours=table)), expected)


def test_transparency_is_put_on_white_straight_and_premultiplied() -> None:
    alpha = np.maximum(BYTES, 40)[..., None]
    straight = np.concatenate([RGB, alpha], axis=-1)
    expected = over_white(RGB, alpha)
    png = Image.fromarray(straight.astype(np.uint8), "RGBA")
    for content in (tiff(straight, 2, 8, extra=2), saved(png, "PNG")):
        assert np.abs(decoded(content) - expected).max() <= 1
    multiplied = np.concatenate([RGB * alpha // 255, alpha], axis=-1)
    assert np.abs(decoded(tiff(multiplied, 2, 8, extra=1)) - expected).max() <= 4  # 255 / 40 levels
    unused = np.concatenate([RGB, alpha], axis=-1)
    assert np.array_equal(decoded(tiff(unused, 2, 8, extra=0)), RGB)


def test_gray_with_alpha_and_palettes_with_transparency() -> None:
    pair = np.stack([BYTES, BYTES[::-1]], axis=-1).astype(np.uint8)
    expected = gray(over_white(pair[..., 0], pair[..., 1].astype(float)))
    assert np.abs(decoded(saved(Image.fromarray(pair, "LA"), "PNG")) - expected).max() <= 1
    palette = Image.fromarray((BYTES // 64).astype(np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 200, 210, 220])
    table = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [200, 210, 220]])
    for form in ("PNG", "GIF"):
        found = decoded(saved(palette, form, transparency=2))
        wanted = table[BYTES // 64].copy()
        wanted[BYTES // 64 == 2] = 255
        assert np.array_equal(found, wanted), form


@pytest.mark.parametrize("form", ["TIFF", "JPEG"])
@pytest.mark.parametrize("profile", [None, b"no profile at all"])
def test_cmyk_is_ink_taken_from_white_whatever_profile_is_named(
    form: str, profile: bytes | None
) -> None:
    inks = np.zeros((8, 8, 4), np.uint8)
    inks[:] = (10, 200, 30, 40)
    options: dict[str, Any] = {"quality": 100} if form == "JPEG" else {}
    if profile:
        options["icc_profile"] = profile
    found = decoded(saved(Image.fromarray(inks, "CMYK"), form, **options))
    wanted = [round((255 - ink) * (255 - 40) / 255) for ink in (10, 200, 30)]
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_lab_is_converted() -> None:
    found = decoded(saved(Image.new("LAB", (4, 4), (255, 128, 128)), "TIFF"))
    assert np.abs(found.astype(int) - 255).max() <= 2
    middle = decoded(saved(Image.new("LAB", (4, 4), (128, 128, 128)), "TIFF"))
    assert np.abs(middle.astype(int) - 119).max() <= 1  # L* 50 in sRGB


def test_one_bit_is_black_and_white_whichever_is_zero() -> None:
    bits = np.zeros((4, 8), bool)
    bits[::2] = True
    expected = gray(np.where(bits, 255, 0))
    for form in ("PNG", "BMP", "PPM", "TIFF"):
        assert np.array_equal(decoded(saved(Image.fromarray(bits), form)), expected), form
    fax = saved(Image.fromarray(bits), "TIFF", compression="group4")
    assert np.array_equal(decoded(fax), expected)


def test_too_many_pixels_name_the_key_that_permits_them() -> None:
    content = saved(Image.new("L", (120, 90)), "PNG")
    with pytest.raises(BadImageError, match=r"is 120 x 90 pixels, .* set data.max_pixels=10800"):
        decoded(content, max_pixels=10799)
    assert decoded(content, max_pixels=10800).shape == (90, 120, 3)


@pytest.mark.slow
def test_a_photograph_of_108_megapixels_and_one_that_pillow_would_refuse() -> None:
    for width, height in ((12000, 9000), (20000, 9500)):
        content = saved(Image.new("L", (width, height), 7), "PNG")
        with pytest.raises(BadImageError, match="data.max_pixels"):
            decoded(content)
        found = decode_image(content, "x", Decoding(max_pixels=width * height))
        assert found.shape == (3, height, width)
        assert torch.equal(found[:, -1, -1], torch.full((3,), 7, dtype=torch.uint8))
