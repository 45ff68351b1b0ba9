"""Rules that tell a run that goes wrong by its log lines, each a pure function.

Thresholds lie far outside of what the three methods show on the quickstart and on the shipped
configs: a rule that is silent is no proof of health.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

RuleName = Literal[
    "collapse",
    "dimensional_collapse",
    "exploding_gradient",
    "no_gradient",
    "no_contrast",
    "batch_recognised",
    "own_image_negatives",
]

Reading = Mapping[str, float]  # the finite numbers of one log line, by key; with `step`

COLLAPSED = 0.1  # feature_std or query_std; 1 when rows spread over the sphere; healthy from 0.3 on
FLAT = 2.5  # effective rank, where min(N, P) allows ten times that
EXPLODED = 100.0  # times the median gradient norm of the lines before
ENOUGH = 5  # lines before, for a median
VANISHED = 1e-8  # gradient norm: below the last digit of float32 weights at any usual rate
NO_MARGIN = 0.02  # cosine to the own key less that to other images
RECOGNISED = 0.4  # context_gap of stream 1; 0.04 in the quickstart
SETTLED, STEPS = 0.2, 500  # share of a run, and steps, in which any network learns something
SPREAD = 0.3  # the same of a line before: what falls from there has collapsed


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What the rules know of a run beside its numbers.

    Attributes:
        method: its name, as the findings begin.
        rows: N, images per device; with labels at most the classes, whose images may coincide.
        width: P, of projections.
        total_steps: of the run.
        warmup_steps: in which the learning rate rises.
        temperature: of the loss; 1 where it has none.
        queue_size: rows of a queue; 0 without one.
        suspects: settings that can cause a finding, by the rule's name.
    """

    method: str
    rows: int
    width: int
    total_steps: int
    warmup_steps: float = 0
    temperature: float = 1.0
    queue_size: int = 0
    suspects: Mapping[str, str] = field(default_factory=dict)

    def is_settled(self, reading: Reading) -> bool:
        """Whether the run is so far that a network which learns nothing is seen to."""
        begins = max(self.warmup_steps, SETTLED * self.total_steps, STEPS)
        return reading["step"] > begins and reading["step"] > 2 * reading.get("queue/age_steps", 0)


@dataclass(frozen=True)
class Finding:
    """What a rule found: one line that names what, when, the number, the cause if one is known."""

    rule: RuleName
    step: int  # of the first of the lines that show it
    says: str


def _collapse(reading: Reading, before: Sequence[Reading], run: Outlook) -> str | None:
    of = min(("feature_std/stream_0", "query_std/stream_0"), key=lambda k: reading.get(k, 1.0))
    spread = reading.get(of, 1.0)
    if spread >= COLLAPSED:
        return None
    # Features of random weights are much alike: low is normal before something was learned.
    once = max((each.get(of, 0.0) for each in before), default=0.0)
    if once < SPREAD and not run.is_settled(reading):
        return None
    full = run.width**-0.5
    what = of.partition("_")[0]
    return f"{what} std {spread * full:.2g} against {full:.2g} expected"


def _dimensional_collapse(reading: Reading, before: Sequence[Reading], run: Outlook) -> str | None:
    rank = reading.get("effective_rank/stream_0")
    possible = min(run.rows, run.width)
    if rank is None or rank >= FLAT or possible < 10 * FLAT or not run.is_settled(reading):
        return None
    return f"projections fill {rank:.1f} of {possible} possible directions"


def _exploding_gradient(reading: Reading, before: Sequence[Reading], run: Outlook) -> str | None:
    norm = reading.get("gradient_norm")
    past = [each["gradient_norm"] for each in before if "gradient_norm" in each]
    if norm is None or len(past) < ENOUGH or norm <= EXPLODED * statistics.median(past):
        return None
    return f"gradient norm {norm:.2g} against a median of {statistics.median(past):.2g} before"


def _no_gradient(reading: Reading, before: Sequence[Reading], run: Outlook) -> str | None:
    norm = reading.get("gradient_norm")
    return None if norm is None or norm > VANISHED else f"gradient norm {norm:.2g}"


def _no_contrast(reading: Reading, before: Sequence[Reading], run: Outlook) -> str | None:
    own, others = (reading.get(f"{kind}_logit/stream_0") for kind in ("positive", "negative"))
    if own is None or others is None or not run.is_settled(reading):
        return None
    own, others = own * run.temperature, others * run.temperature
    if own - others >= NO_MARGIN:
        return None
    return f"a query's cosine to its own key is {own:.2f}, to other images {others:.2f}"


def _batch_recognised(reading: Reading, before: Sequence[Reading], run: Outlook) -> str | None:
    gap = reading.get("context_gap/stream_1")
    if gap is None or gap <= RECOGNISED or not run.is_settled(reading):
        return None
    plain = reading.get("context_gap/stream_0", 0.0)
    if plain > gap / 2:
        return None  # nothing that the relation adds
    return f"context gap {gap:.2f} of the related stream against {plain:.2f} of the plain one"


def _own_image_negatives(reading: Reading, before: Sequence[Reading], run: Outlook) -> str | None:
    share = reading.get("queue/own_image_share", 0.0)
    if "own_image_negatives" not in run.suspects or share * run.queue_size < 0.5:
        return None
    return (
        f"the queue holds {share * run.queue_size:.2g} older keys of each query's own image, "
        "which count as negatives"
    )


Rule = Callable[[Reading, Sequence[Reading], Outlook], str | None]

RULES: dict[RuleName, tuple[str, Rule, str]] = {
    "collapse": ("collapsed", _collapse, "lower optimizer.base_learning_rate"),
    "dimensional_collapse": (
        "collapsed to few dimensions",
        _dimensional_collapse,
        "lower optimizer.base_learning_rate or method.temperature, or strengthen the views",
    ),
    "exploding_gradient": (
        "has an exploding gradient",
        _exploding_gradient,
        "lower optimizer.base_learning_rate or raise optimizer.warmup_epochs",
    ),
    "no_gradient": ("has no gradient", _no_gradient, "look for parameters that are not trained"),
    "no_contrast": (
        "does not tell images apart",
        _no_contrast,
        "look whether both views show the same image, and raise optimizer.base_learning_rate",
    ),
    "batch_recognised": (
        "recognises the batch instead of the image",
        _batch_recognised,
        "lower relation.context or relation.lr_scale, or set relation.pairs=plain_keys",
    ),
    "own_image_negatives": ("contrasts images with themselves", _own_image_negatives, ""),
}
assert set(RULES) == set(get_args(RuleName))


def judge(
    name: RuleName, reading: Reading, before: Sequence[Reading], run: Outlook
) -> Finding | None:
    """What one rule finds in a log line.

    Args:
        name: of the rule.
        reading: the line.
        before: earlier ones, oldest first.
        run: what it is a line of.
    """
    happens, rule, advice = RULES[name]
    shows = rule(reading, before, run)
    if shows is None:
        return None
    step = int(reading["step"])
    cause = run.suspects.get(name, advice)
    return Finding(name, step, f"{run.method} {happens} at step {step}: {shows}; {cause}")
