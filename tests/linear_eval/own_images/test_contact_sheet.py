"""Drawing queries and neighbours."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from linear_eval.own_images import fonts
from linear_eval.own_images.contact_sheet import (
    TILE,
    SheetImage,
    SheetRow,
    draw_sheet,
    thumbnail,
    write_sheet,
)
from linear_eval.system.errors import InputError

RED = torch.tensor([200, 0, 0], dtype=torch.uint8).view(3, 1, 1).expand(3, 40, 40)


def tile(name: str = "a/b.png", *, pixels: torch.Tensor | None = RED) -> SheetImage:
    return SheetImage(pixels, "1.  0.900", name)


def count(sheet: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.array(sheet) == colour).all(axis=2).sum())


def test_every_image_is_drawn_at_the_size_of_a_tile() -> None:
    sheet = draw_sheet([SheetRow(tile(), [tile()] * 3), SheetRow(tile(), [tile()] * 2)])
    assert count(sheet, (200, 0, 0)) == 7 * TILE * TILE


def test_only_queries_have_a_border() -> None:
    accent = (196, 78, 32)
    none = draw_sheet([SheetRow(tile(), [])])
    some = draw_sheet([SheetRow(tile(), [tile()] * 3)])
    assert count(none, accent) >= 4 * 4 * TILE
    assert count(some, accent) == count(none, accent)


def test_an_image_keeps_its_shape() -> None:
    wide = RED.expand(3, 40, 40)[:, :20]
    sheet = draw_sheet([SheetRow(tile(pixels=wide), [])])
    assert count(sheet, (200, 0, 0)) == TILE * TILE // 2


def test_a_thumbnail_is_what_would_be_drawn() -> None:
    image = torch.arange(3 * 90 * 300).view(3, 90, 300).remainder(251).to(torch.uint8)
    small = thumbnail(image)
    assert small.shape == (3, round(90 * TILE / 300), TILE)
    sheets = [draw_sheet([SheetRow(tile(pixels=each), [])]) for each in (image, small)]
    assert sheets[0].tobytes() == sheets[1].tobytes()


def test_a_lost_image_is_a_grey_tile() -> None:
    lost = draw_sheet([SheetRow(tile(), [tile(pixels=None)])])
    grey = count(lost, (205, 205, 205))
    assert 0.8 * TILE * TILE < grey < TILE * TILE  # its name is written on it
    assert count(draw_sheet([SheetRow(tile(), [tile()])]), (205, 205, 205)) == 0


def test_more_than_ten_neighbours_go_on_below() -> None:
    ten, eleven = (draw_sheet([SheetRow(tile(), [tile()] * n)]) for n in (10, 11))
    assert ten.width == eleven.width
    assert eleven.height > ten.height + TILE
    assert count(eleven, (200, 0, 0)) == 12 * TILE * TILE


@pytest.mark.parametrize("name", ["x" * 300, "k\u00e4tzchen/\u732b.png", "bad\udcff\n.png", ""])
def test_any_name_can_be_drawn(name: str) -> None:
    plain = draw_sheet([SheetRow(tile(), [tile()])])
    assert draw_sheet([SheetRow(tile(name), [tile(name, pixels=None)])]).size == plain.size


def test_the_sheet_is_a_png(tmp_path: Path) -> None:
    write_sheet(tmp_path / "s.png", [SheetRow(tile(), [tile()])])
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.format == "PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["s.png"]


def test_a_sheet_that_no_viewer_shows_is_refused() -> None:
    with pytest.raises(InputError, match=r"^--sheet: 200 queries need"):
        draw_sheet([SheetRow(tile(), [tile()])] * 200)


def test_a_name_without_a_font_is_numbered_never_boxes_and_a_file_says_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fonts, "_USUAL", ())
    monkeypatch.setattr(fonts, "installed_fonts", lambda letter: [])
    names = ["\u732b/1.png", "katze/\u043a\u043e\u0442.png", "\u732b/2.png"]
    plain = ["(name 1)/1.png", "katze/(name 2)", "(name 1)/2.png"]
    sheets = {}
    for key, given in (("other", names), ("plain", plain)):
        path = tmp_path / f"{key}.png"
        sheets[key] = write_sheet(path, [SheetRow(tile(), [tile(name) for name in given])])
    assert (tmp_path / "other.png").read_bytes() == (tmp_path / "plain.png").read_bytes()
    assert sheets == {"other": tmp_path / "other.names.txt", "plain": None}
    said = (tmp_path / "other.names.txt").read_text(encoding="utf-8")
    assert said == "(name 1)\t\u732b\n(name 2)\t\u043a\u043e\u0442.png\n"
