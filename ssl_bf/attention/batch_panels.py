"""The panels that show images: the batch, a matrix of attention, and chosen rows.

Shapes: N images of the batch, B sequences of g rows, R rows that each of those may attend to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ssl_bf.attention.description import most_attended
from ssl_bf.attention.thumbnails import side_by_side, thumbnails

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from linear_eval.datasets.dataset import ImageSplit
    from ssl_bf.attention.one_batch import RelatedBatch

LINE, MOST_LINES = 32, 8  # images in a line of the grid; lines of it
MOST_ROWS = 32  # of a matrix
OF_A_ROW, LEAST = 7, 5e-4  # images that a chosen row attends to most, with so much or more
FEW = 6  # chosen rows fill as much room as so many
CHOSEN, SAME, OTHER = "#c44e20", "#2e8b57", "0.8"


def grid_shape(related: RelatedBatch) -> tuple[int, int]:
    """Columns and lines of the grid of images: a group is a line where it makes a good one."""
    group = related.members.shape[1]
    columns = group if 16 <= group <= LINE else LINE
    return columns, min(MOST_LINES, -(-len(related.images) // columns))


def draw_grid(
    axes: Axes, related: RelatedBatch, images: ImageSplit, description: dict[str, Any]
) -> None:
    """The images of the batch, group by group; chosen rows have a frame."""
    columns, lines = grid_shape(related)
    rows = related.members.flatten()[: columns * lines].tolist()
    shown = related.images[rows].tolist()
    small = thumbnails(images, shown)
    mosaic = side_by_side([small[index] for index in shown], columns)
    axes.imshow(mosaic, extent=(0, columns, lines, 0), interpolation="antialiased")
    for each in description["rows"]:
        if each["row"] in rows:
            line, column = divmod(rows.index(each["row"]), columns)
            _frame(axes, column, line, CHOSEN)
    group = related.members.shape[1]
    of = f"in groups of {group}, a line each" if columns == group else f"in groups of {group}"
    if group == 1 or group >= len(related.images):
        of = "each by itself" if group == 1 else "in one group"
    cut = "" if len(rows) == len(related.images) else f", {len(rows)} of them shown"
    axes.set_title(f"The {len(related.images)} images of the batch, {of}{cut}")
    axes.set_axis_off()


@dataclass(frozen=True, eq=False)
class Shown:
    """Part of the last layer's attention, as a matrix.

    Attributes:
        rows: image of each line.
        columns: image of each column; None where every row has its own.
        names: of columns that stand for no image.
        weights: (lines, columns), NaN where a row may not attend.
        says: what is shown.
    """

    rows: list[int]
    columns: list[int] | None
    names: list[str]
    weights: Tensor
    says: str


def shown_part(related: RelatedBatch, labels: Tensor) -> Shown:
    """The first sequence, sorted by class; the first rows where each is a sequence."""
    layer = related.layers[-1]
    count, group = related.members.shape
    weights = layer.weights.mean(dim=1)
    weights = weights.masked_fill(~layer.seen.expand_as(layer.weights)[:, 0], torch.nan)
    if group == 1:  # every row has columns of its own
        first = related.columns[:MOST_ROWS, 0]
        order = labels[first].argsort(stable=True)
        names = ["itself", *(str(n) for n in range(1, weights.shape[2]))]
        says = f"{len(order)} of {count} rows, each with its own nearest rows"
        return Shown(first[order].tolist(), None, names, weights[order, 0], says)
    images = related.columns[0, :group][:MOST_ROWS]
    order = labels[images].argsort(stable=True)
    cut = "" if group <= MOST_ROWS else f", {len(order)} of its {group} rows and columns"
    if weights.shape[2] == group:
        part = weights[0][order][:, order]
        rows = images[order].tolist()
        return Shown(rows, rows, [], part, f"the first group{cut}")
    own = weights[0].diagonal()[order]
    beside = related.columns[0, group:][:MOST_ROWS]
    by_class = labels[beside].argsort(stable=True)
    part = torch.cat([own[:, None], weights[0, order][:, group + by_class]], dim=1)
    rows = images[order].tolist()
    says = f"the first group and the rows beside it{cut}"
    return Shown(rows, beside[by_class].tolist(), ["itself"], part, says)


def draw_matrix(
    axes: Axes, related: RelatedBatch, images: ImageSplit, description: dict[str, Any]
) -> None:
    """Attention of rows (left) to columns (top), the mean over heads."""
    shown = shown_part(related, images.labels)
    lines, columns = shown.weights.shape
    known = shown.weights[~shown.weights.isnan()]
    most = float(known.quantile(0.99)) if known.numel() else 1.0
    drawn = axes.imshow(
        shown.weights.numpy(),
        extent=(0, columns, lines, 0),
        cmap="Blues",
        vmin=0,
        vmax=max(most, 1e-6),
        interpolation="nearest",
    )
    small = thumbnails(images, [*shown.rows, *(shown.columns or [])])
    strip = 0.35  # of colours: a class each
    side = max(1.0, max(lines, columns) / 32)
    left = side_by_side([small[index] for index in shown.rows], 1)
    axes.imshow(left, extent=(-side - strip, -strip, lines, 0), interpolation="antialiased")
    labels = [int(images.labels[index]) for index in shown.rows]
    _classes(axes, labels, strip, vertical=True)
    _class_names(axes, labels, images.class_names, -side - strip)
    first = len(shown.names)
    if shown.columns is not None:
        top = side_by_side([small[index] for index in shown.columns], len(shown.columns))
        place = (first, columns, -strip, -side - strip)
        axes.imshow(top, extent=place, interpolation="antialiased")
        of = [int(images.labels[index]) for index in shown.columns]
        _classes(axes, of, strip, vertical=False, start=first)
    for number, name in enumerate(shown.names):
        axes.text(number + 0.5, -0.3, name, rotation=90, ha="center", va="bottom", color="0.3")
    axes.set_xlim(-side - strip, columns)
    axes.set_ylim(lines, -side - strip - (1.8 if shown.names else 0))
    axes.set_aspect("equal", anchor="NW")
    axes.set_axis_off()
    beside = axes.inset_axes((1.02, 0.0, 0.025, 0.6))
    bar = axes.figure.colorbar(drawn, cax=beside, extend="max")
    bar.ax.spines["outline"].set_visible(False)
    seen = float((~shown.weights.isnan()).sum(dim=1).double().mean())
    bar.ax.axhline(1 / max(seen, 1), color=CHOSEN, linewidth=1)
    layers = len(related.layers)
    which = "" if layers == 1 else f" of layer {layers - 1} (the last)"
    axes.set_title(
        f"Attention{which}, mean over heads: {shown.says}\nred in the scale: equal weights", pad=8
    )


def draw_rows(
    axes: Axes, related: RelatedBatch, images: ImageSplit, description: dict[str, Any]
) -> None:
    """Chosen rows, each with what it attends to most, by falling weight."""
    rows = [each["row"] for each in description["rows"]]
    found = [most_attended(related, row, OF_A_ROW) for row in rows]
    own = related.images[rows].tolist()
    small = thumbnails(images, [*own, *(image for each in found for image, _, _ in each)])
    height = 1.42
    for line, (row, most) in enumerate(zip(own, found, strict=True)):
        top = line * height
        _image(axes, small[row], 0, top)
        _frame(axes, 0, top, CHOSEN)
        label = int(images.labels[row])
        if label >= 0:
            name = images.class_names[label].replace("_", " ")
            axes.text(0.5, top + 1.07, name[:14], ha="center", va="top", size=7, color="0.2")
        attended = [each for each in most if each[1] >= LEAST]
        for place, (image, weight, itself) in enumerate(attended):
            left = 1.5 + place * 1.08
            _image(axes, small[image], left, top)
            is_same = label >= 0 and int(images.labels[image]) == label
            _frame(axes, left, top, CHOSEN if itself else SAME if is_same else OTHER)
            text = f"{100 * weight:.1f}"
            axes.text(left + 0.5, top + 1.07, text, ha="center", va="top", size=7, color="0.2")
    axes.set_xlim(-0.1, 1.5 + OF_A_ROW * 1.08)
    axes.set_ylim(max(len(rows), FEW) * height, -0.1)
    axes.set_aspect("equal", anchor="NW")
    axes.set_axis_off()
    axes.set_title(
        "Chosen rows and what they attend to most, % of the weight\n"
        "red: the row itself; green: an image of its class",
        pad=8,
    )


def _image(axes: Axes, pixels: Any, left: float, top: float) -> None:
    axes.imshow(pixels, extent=(left, left + 1, top + 1, top), interpolation="antialiased")


def _frame(axes: Axes, left: float, top: float, colour: str) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((left, top), 1, 1, fill=False, edgecolor=colour, linewidth=1.6))


def _class_names(axes: Axes, labels: list[int], names: Sequence[str], right: float) -> None:
    """The name of a class once, at the middle of its rows, where there is room."""
    for label in sorted({*labels} - {-1}):
        lines = [line for line, other in enumerate(labels) if other == label]
        if len(lines) == lines[-1] - lines[0] + 1:  # sorted by class
            text = names[label].replace("_", " ")[:14]
            place = (right - 0.3, lines[0] + len(lines) / 2)
            axes.text(*place, text, ha="right", va="center", size=6.5, color="0.3")


def _classes(
    axes: Axes, labels: list[int], strip: float, *, vertical: bool, start: int = 0
) -> None:
    """A strip of colours between thumbnails and matrix; nothing without labels."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    colours = colormaps["tab20"]
    for number, label in enumerate(labels):
        if label >= 0:
            place, size = start + number, (1.0, strip * 0.5)
            corner = (-strip * 0.75, place) if vertical else (place, -strip * 0.75)
            width, height = size[::-1] if vertical else size
            axes.add_patch(Rectangle(corner, width, height, color=colours(label % 20)))
