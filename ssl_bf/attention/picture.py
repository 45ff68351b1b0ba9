"""One page: a batch, who attends to whom in it, and what came of the relation over training."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from linear_eval.datasets.dataset import ImageSplit
    from ssl_bf.attention.one_batch import RelatedBatch

WIDTH, DOTS_PER_INCH = 13.0, 140
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

    from ssl_bf.attention import batch_panels, number_panels

    has_attention = bool(related.layers) and related.columns.shape[1] > 1
    columns, lines = batch_panels.grid_shape(related)
    heights = [
        (WIDTH - 0.8) / columns * lines,
        6.4 if has_attention else 0.01,
        2.1,
        2.1,
    ]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, sum(heights) + 3.4), dpi=DOTS_PER_INCH)
        total = figure.get_figheight()
        figure.text(0.03, 1 - 0.28 / total, description["title"], size=15, weight="bold")
        below = f"after step {related.step}; view {related.view}; {'; '.join(related.notes)}"
        figure.text(0.03, 1 - 0.52 / total, below, color="0.35", size=9)
        page = figure.add_gridspec(
            4,
            12,
            height_ratios=heights,
            left=0.03,
            right=0.97,
            top=1 - 0.95 / total,
            bottom=0.5 / total,
            hspace=0.65 * 4 / sum(heights),
            wspace=3.0,
        )
        batch_panels.draw_grid(figure.add_subplot(page[0, :]), related, images, description)
        if has_attention:
            batch_panels.draw_matrix(figure.add_subplot(page[1, :7]), related, images)
            batch_panels.draw_rows(figure.add_subplot(page[1, 7:]), related, images, description)
        for place, panel in enumerate(number_panels.OF_THE_BATCH):
            panel(figure.add_subplot(page[2, 4 * place : 4 * place + 4]), related, description)
        for place, curve in enumerate(number_panels.OVER_TRAINING):
            axes = figure.add_subplot(page[3, 3 * place : 3 * place + 3])
            number_panels.draw_curves(axes, description["over_training"], curve)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return buffer.getvalue()
