"""The panels that show numbers: of the batch, and over training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from linear_eval.datasets.dataset import ImageSplit
    from ssl_bf.attention.one_batch import RelatedBatch

FIRST, SECOND, GREY = "#3b6ea5", "#c44e20", "0.6"


def draw_entropy(
    axes: Axes, related: RelatedBatch, images: ImageSplit, description: dict[str, Any]
) -> None:
    """Entropy of each row's attention in the last layer, by head, against equal weights.

    From least to most, the middle half thick, the median a dot.
    """
    axes.set_title("Entropy of a row's attention, in nats")
    if not related.layers:
        _say(axes, f"{description['relation']} has no attention")
        return
    layer, said = related.layers[-1], description["layers"][-1]
    if layer.weights.shape[-1] == 1:
        _say(axes, "a row sees itself alone: there is no choice")
        return
    heads = layer.entropy.transpose(0, 1).flatten(1)  # (heads, rows)
    levels = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=heads.dtype)
    for place, (least, low, middle, high, most) in enumerate(
        heads.quantile(levels, dim=1).T.tolist(), start=1
    ):
        axes.hlines(place, least, most, color=FIRST, linewidth=1)
        axes.hlines(place, low, high, color=FIRST, linewidth=6, alpha=0.6)
        axes.plot([middle], [place], "o", color=FIRST, markersize=4)
    equal = said["log_rows_to_choose_from"]
    axes.axvline(equal, color=SECOND, linestyle="--", linewidth=1)
    text = f"log {said['rows_to_choose_from']:g} = {equal:.2f}: equal weights "
    axes.text(equal, len(heads) + 0.75, text, color=SECOND, ha="right", va="center")
    axes.set_xlim(0, max(1.08 * equal, 0.1))
    axes.set_ylim(0.3, len(heads) + 1.1)
    axes.set_yticks(range(1, len(heads) + 1), [f"head {n}" for n in range(len(heads))])


def draw_same_class(
    axes: Axes, related: RelatedBatch, images: ImageSplit, description: dict[str, Any]
) -> None:
    """Where the attention falls, beside what chance would give."""
    axes.set_title("Attention to other images: share on the own class, %")
    if not related.layers:
        _say(axes, f"{description['relation']} has no attention")
        return
    said = description["layers"][-1]
    axes.set_xlabel(f"{100 * said['share_of_itself']:.1f} % of all attention: on the image itself")
    if description["classes"] is None:
        _say(axes, "the images have no labels")
        return
    if said["share_of_same_class"] is None:
        _say(axes, "no image attends to others")
        return
    bars = {
        "attention": 100 * said["share_of_same_class"],
        "equal weights": 100 * said["share_of_same_class_by_chance"],
        "a random image": 100 * description["same_class_at_random"],
    }
    places = range(len(bars))
    axes.barh(places, list(bars.values()), color=[FIRST, GREY, "0.85"], height=0.65)
    for place, value in zip(places, bars.values(), strict=True):
        axes.text(value, place, f" {value:.1f}", va="center")
    axes.set_yticks(places, [*bars])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.2 * max(*bars.values(), 1.0))


def draw_cosine(
    axes: Axes, related: RelatedBatch, images: ImageSplit, description: dict[str, Any]
) -> None:
    """How far the relation moves an image."""
    mean = description["stream_cosine"]["mean"]
    axes.set_title(f"Cosine between plain and related row, mean {mean:.3f}")
    values = related.cosines.numpy()
    low = min(0.0, float(values.min()))
    axes.hist(values, bins=32, range=(low, 1.0), color=FIRST, alpha=0.8)
    axes.axvline(mean, color=SECOND, linestyle="--", linewidth=1)
    axes.set_xlim(low, 1.02)
    axes.set_ylabel("images")


OF_THE_BATCH = (draw_entropy, draw_same_class, draw_cosine)


@dataclass(frozen=True)
class CurvePanel:
    """A family of keys of `metrics.jsonl`.

    Attributes:
        family: the key, or what stands before its `/`.
        title: of the panel.
        level: a line that stands for something.
        limits: of the values, where they have any.
    """

    family: str
    title: str
    level: float | None = None
    limits: tuple[float, float] | None = None


OVER_TRAINING = (
    CurvePanel("attention_entropy", "Entropy / log of the choices", 1.0, (0.0, 1.05)),
    CurvePanel("gate", "Gate", 0.0),
    CurvePanel("context_gap", "Context gap", 0.0),
    CurvePanel("stream_cosine", "Cosine between the streams", 1.0),
)


def draw_curves(
    axes: Axes,
    related: RelatedBatch,
    images: ImageSplit,
    description: dict[str, Any],
    *,
    panel: CurvePanel,
) -> None:
    """Every key of the family over the steps; a word where the run has logged none."""
    curves = description["over_training"]
    axes.set_title(panel.title)
    names = [name for name in curves if name.partition("/")[0] == panel.family]
    if not names:
        _say(axes, f"{panel.family} is not in\nmetrics.jsonl of this run")
        return
    colours = [FIRST, SECOND, "#2e8b57", "#8064a2", "0.4"]
    if panel.level is not None:
        axes.axhline(panel.level, color=GREY, linestyle=":", linewidth=1)
    for number, name in enumerate(names):
        curve = curves[name]
        label = name.partition("/")[2].replace("_", " ")
        colour = colours[number % len(colours)]
        axes.plot(curve["step"], curve["value"], ".-", color=colour, label=label, ms=3, lw=1.3)
    if len(names) > 1:
        axes.legend(fontsize=7)
    if panel.limits is not None:
        axes.set_ylim(*panel.limits)
    axes.set_xlabel("step")


def _say(axes: Axes, text: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="0.5")
