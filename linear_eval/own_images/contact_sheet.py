"""One picture that shows each query and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from linear_eval.own_images.fonts import Lettering
from linear_eval.system.atomic_file import atomic_file
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from PIL import Image, ImageDraw
    from torch import Tensor

TILE = 144  # side of an image in pixels
_COLUMNS = 10  # neighbours in a line; more go on below
_GAP = 10
_MARGIN = 20
_BORDER = 4
_LINE = 16  # height of a line of text
_FONT_SIZE = 12
_MAX_SIDE = 30_000  # pixels; viewers fail beyond

_PAPER, _TEXT, _FAINT = (255, 255, 255), (30, 30, 30), (120, 120, 120)
_ACCENT, _RULE, _MISSING = (196, 78, 32), (225, 225, 225), (205, 205, 205)


@dataclass(frozen=True, eq=False)
class SheetImage:
    """An image with what stands below it.

    Attributes:
        pixels: (3, H, W) uint8; None: could not be read, drawn as a grey tile.
        caption: first line.
        name: a path below the folder of the images: its last part is the second line, its folder
            stands at the end of the first; what does not fit is left out in the middle.
    """

    pixels: Tensor | None
    caption: str
    name: str


@dataclass(frozen=True, eq=False)
class SheetRow:
    """A query and its neighbours, best first."""

    query: SheetImage
    neighbours: Sequence[SheetImage]


def write_sheet(path: Path, rows: Sequence[SheetRow]) -> Path | None:
    """Draw the rows below each other and write them as a PNG, whole or not at all.

    Returns:
        A text file beside it, if there are names that no font of this machine can draw: a number
        stands in their place, and that file says for what.

    Raises:
        InputError: it would be too large to look at, or cannot be written.
    """
    lettering = Lettering(_FONT_SIZE)
    sheet = draw_sheet(rows, lettering)
    legend = path.with_suffix(".names.txt") if lettering.numbered else None
    if legend is not None:
        lines = [f"{number}\t{name}\n" for name, number in lettering.numbered.items()]
        with atomic_file(legend) as file:
            file.write("".join(lines).encode())
    with atomic_file(path) as file:
        sheet.save(file, format="PNG")
    return legend


def thumbnail(pixels: Tensor) -> Tensor:
    """An image (3, H, W) uint8 at the size at which it is drawn: its long side is `TILE`."""
    import numpy as np

    return torch.from_numpy(np.array(_fitted(pixels))).permute(2, 0, 1)


def draw_sheet(rows: Sequence[SheetRow], lettering: Lettering | None = None) -> Image.Image:
    """Each row: the query with a border at the left, its neighbours beside it, ten in a line.

    Args:
        rows: at least one.
        lettering: draws the texts, and has the numbers of those that it cannot.

    Raises:
        InputError: it would be too large to look at.
    """
    from PIL import Image, ImageDraw

    columns = max(1, *(min(_COLUMNS, len(row.neighbours)) for row in rows))
    step_x, step_y = TILE + _GAP, TILE + 2 * _LINE + _GAP
    left = _MARGIN + step_x + 2 * _GAP  # of the neighbours
    lines = [max(1, -(-len(row.neighbours) // _COLUMNS)) for row in rows]
    width = left + columns * step_x - _GAP + _MARGIN
    height = 2 * _MARGIN + sum(lines) * step_y + (len(rows) - 1) * 2 * _GAP
    if height > _MAX_SIDE:
        raise InputError(
            f"--sheet: {len(rows)} queries need {height} pixels of height, expected at most "
            f"{_MAX_SIDE}; ask for fewer at once, or lower --k"
        )
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw, font = ImageDraw.Draw(sheet), lettering or Lettering(_FONT_SIZE)
    top = _MARGIN
    for row, line_count in zip(rows, lines, strict=True):
        if top > _MARGIN:
            draw.line([(_MARGIN, top - _GAP), (width - _MARGIN, top - _GAP)], fill=_RULE)
        _place(sheet, draw, row.query, (_MARGIN, top), font, border=True)
        for number, tile in enumerate(row.neighbours):
            line, column = divmod(number, _COLUMNS)
            corner = (left + column * step_x, top + line * step_y)
            _place(sheet, draw, tile, corner, font, border=False)
        top += line_count * step_y + 2 * _GAP
    return sheet


def _place(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    tile: SheetImage,
    corner: tuple[int, int],
    font: Lettering,
    *,
    border: bool,
) -> None:
    left, top = corner
    box = (left, top, left + TILE - 1, top + TILE - 1)
    if tile.pixels is None:
        draw.rectangle(box, fill=_MISSING)
        text = font.shortened(font.readable(tile.name.rpartition("/")[2]), TILE - 8)
        middle = left + (TILE - font.length(text)) / 2, top + (TILE - font.ascent) // 2
        font.draw(draw, middle, text, _TEXT)
    else:
        image = _fitted(tile.pixels)
        inset = ((TILE - image.width) // 2, (TILE - image.height) // 2)
        sheet.paste(image, (left + inset[0], top + inset[1]))
        box = (left + inset[0], top + inset[1], *_end(left + inset[0], top + inset[1], image))
    if border:
        grown = (box[0] - _BORDER, box[1] - _BORDER, box[2] + _BORDER, box[3] + _BORDER)
        draw.rectangle(grown, outline=_ACCENT, width=_BORDER)
    below = top + TILE + 5
    folder, _, file_name = tile.name.rpartition("/")
    font.draw(draw, (left, below), tile.caption, _ACCENT if border else _TEXT)
    folder = font.shortened(font.readable(folder), TILE - font.length(tile.caption) - _GAP)
    font.draw(draw, (left + TILE - font.length(folder), below), folder, _FAINT)
    file_name = font.shortened(font.readable(file_name), TILE)
    font.draw(draw, (left, below + _LINE), file_name, _FAINT)


def _end(left: int, top: int, image: Image.Image) -> tuple[int, int]:
    return left + image.width - 1, top + image.height - 1


def _fitted(pixels: Tensor) -> Image.Image:
    """The whole image with its long side as long as a tile's."""
    from PIL import Image

    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    scale = TILE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
