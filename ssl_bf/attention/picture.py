"""One page: a batch, who attends to whom in it, and what came of the relation over training."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from linear_eval.datasets.dataset import ImageSplit
    from ssl_bf.attention.one_batch import RelatedBatch

    Draw = Callable[[Axes, RelatedBatch, ImageSplit, dict[str, Any]], None]
    Line = tuple[float, list[tuple[float, float, Draw]]]  # height; left, width, panel

# In inches.
WIDTH, MARGIN, GAP, HEADING = 13.0, 0.4, 0.85, 0.85
DOTS_PER_INCH = 140
STYLE: Any = {  # its keys are a type of their own, another one in each version
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "0.5",
    "xtick.color": "0.3",
    "ytick.color": "0.3",
    "legend.frameon": False,
}


def require_matplotlib() -> None:
    """Refuse to begin without it.

    Raises:
        InputError: it is missing, or does not load.
    """
    try:
        import matplotlib  # noqa: F401 - whether it is there
    except ImportError as error:
        raise InputError(
            f"matplotlib: cannot be imported ({error}), expected the extra 'report'; "
            "pip install 'ssl-bf[report]'"
        ) from error


def draw(related: RelatedBatch, images: ImageSplit, description: dict[str, Any]) -> bytes:
    """Draw the page and return it as a PNG.

    Args:
        related: the batch.
        images: that the run trains on.
        description: of that batch, from `describe`, with `title`.

    Raises:
        InputError: without matplotlib.
    """
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    lines = _lines(related)
    height = HEADING + sum(inches + GAP for inches, _ in lines)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), dpi=DOTS_PER_INCH)
        left, top = MARGIN / WIDTH, height - 0.45
        title = f"Who attends to whom: {description['title']}"
        figure.text(left, top / height, title, size=15, weight="bold")
        below = f"after step {related.step}; view {related.view}; {'; '.join(related.notes)}"
        figure.text(left, (top - 0.25) / height, below, color="0.35", size=9)
        bottom = height - HEADING + 0.3
        for inches, panels in lines:
            bottom -= inches + GAP
            for start, width, panel in panels:
                place = (start / WIDTH, (bottom + 0.3) / height, width / WIDTH, inches / height)
                panel(figure.add_axes(place), related, images, description)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _lines(related: RelatedBatch) -> list[Line]:
    """The panels, line by line, from the top."""
    from ssl_bf.attention import batch_panels, number_panels

    across = WIDTH - 2 * MARGIN
    columns, rows = batch_panels.grid_shape(related)
    lines: list[Line] = [(across / columns * rows, [(MARGIN, across, batch_panels.draw_grid)])]
    if related.layers and related.columns.shape[1] > 1:
        matrix, chosen = (MARGIN + 0.7, 6.2), (MARGIN + 7.75, across - 7.75)
        lines.append(
            (6.2, [(*matrix, batch_panels.draw_matrix), (*chosen, batch_panels.draw_rows)])
        )
    names, steps = 0.8, 0.35  # room for what stands left of the axes
    lines.append((1.9, _side_by_side(list(number_panels.OF_THE_BATCH), across, names)))
    curves: list[Draw] = [
        partial(number_panels.draw_curves, panel=panel) for panel in number_panels.OVER_TRAINING
    ]
    lines.append((1.9, _side_by_side(curves, across, steps)))
    return lines


def _side_by_side(
    panels: list[Draw], across: float, before: float
) -> list[tuple[float, float, Draw]]:
    share = (across + 0.4) / len(panels)
    return [
        (MARGIN + share * number + before, share - before - 0.4, panel)
        for number, panel in enumerate(panels)
    ]
