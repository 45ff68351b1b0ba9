"""Everyone who was judged, once each, with a name and a colour that hold for the whole page."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from linear_eval.evaluation.config import PIXELS, RANDOM
from linear_eval.report.run_files import Run
from linear_eval.results.intervals import Interval
from linear_eval.results.per_image import PerImage, read_per_image
from linear_eval.results.results_file import Results
from linear_eval.system.atomic_file import file_sha256
from linear_eval.system.errors import InputError

GREY, HOLLOW = -1, -2  # numbers of the colours of random weights and of raw pixels
_TITLES = {PIXELS: "raw pixels", RANDOM: "random backbone"}
_COLOURS = {PIXELS: HOLLOW, RANDOM: GREY}


@dataclass(frozen=True, eq=False, kw_only=True)
class Shown:
    """One contestant of one evaluation.

    Attributes:
        key: in the results file.
        name: on the page; no two have the same.
        colour: its number, negative for a baseline without pretraining.
        results: where it was judged.
        metrics: in percent.
        intervals: 95 %, test sampling.
        is_judged: whether it is the one that the results are of, not a baseline.
        backbone: `architecture`, `sha256`, `seed`, as far as the results say.
        answers: of its evaluation, with `judged` its key; None where there are none.
    """

    key: str
    name: str
    colour: int
    results: Results
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    is_judged: bool
    backbone: dict[str, Any] = field(default_factory=dict)
    answers: PerImage | None = None


@dataclass(frozen=True, eq=False)
class Contestants:
    """Everyone, in the order of the table.

    Attributes:
        everyone: of each evaluation its baselines, then the judged one.
        main: the judged one of the evaluation named last.
        rival: whom `main` is compared with: the judged one of the evaluation before, or else the
            last baseline that was pretrained; None if there is neither.
        notes: where answers per image are missing, for the page, each with why, for the terminal.
    """

    everyone: tuple[Shown, ...]
    main: Shown
    rival: Shown | None
    notes: tuple[tuple[str, str], ...] = ()


def open_contestants(all_results: Sequence[Results]) -> Contestants:
    """Everyone of one or more evaluations; raw pixels and random weights once per data set."""
    found: list[Shown] = []
    notes: list[tuple[str, str]] = []
    for results in all_results:
        try:
            answers = read_per_image(results.path, results.per_image)
        except InputError as error:
            answers = None
            folder = results.path.absolute().parent.name
            notes.append((f"{folder}: there are no answers to each test image", str(error)))
        found += [each for each in _of(results, answers) if not _is_there(each, found)]
    everyone = tuple(_coloured(_named(found)))
    judged = [each for each in everyone if each.is_judged]
    files = [each for each in everyone if not each.is_judged and each.colour >= 0]
    main = judged[-1]
    others = judged[:-1] or [each for each in files if each.results is main.results]
    return Contestants(everyone, main, others[-1] if others else None, tuple(notes))


def run_colours(runs: Sequence[Run], contestants: Contestants | None) -> list[int]:
    """That of the contestant whose backbone a run made; else numbers that are free."""
    of_file = {
        each.backbone["sha256"]: each.colour
        for each in (contestants.everyone if contestants else ())
        if each.backbone.get("sha256")
    }
    found = [of_file.get(file_sha256(run.backbone)) if run.backbone else None for run in runs]
    free = (number for number in itertools.count() if number not in of_file.values())
    return [next(free) if colour is None else colour for colour in found]


def _of(results: Results, answers: PerImage | None) -> list[Shown]:
    whole = results.whole
    intervals, said = (whole.get(key) or {} for key in ("baseline_intervals", "baseline_backbones"))
    shown = [
        _shown(results, answers, key, metrics, intervals.get(key) or {}, said.get(key) or {})
        for key, metrics in (whole.get("baselines") or {}).items()
    ]
    judged = results.backbone["architecture"]
    if answers is not None:
        judged = answers.judged
    own = whole.get("intervals") or {}
    main = _shown(results, answers, judged, results.metrics, own, results.backbone)
    return [*shown, replace(main, is_judged=True)]


def _shown(
    results: Results,
    answers: PerImage | None,
    key: str,
    metrics: dict[str, Any],
    intervals: dict[str, Any],
    backbone: dict[str, Any],
) -> Shown:
    return Shown(
        key=key,
        name=_TITLES.get(key, key),
        colour=_COLOURS.get(key, 0),
        results=results,
        metrics={name: float(value) for name, value in metrics.items()},
        intervals={name: (float(low), float(high)) for name, (low, high) in intervals.items()},
        is_judged=False,
        backbone=backbone,
        answers=replace(answers, judged=key) if answers and key in answers.scores else None,
    )


def _is_there(each: Shown, found: Sequence[Shown]) -> bool:
    """Whether a baseline was judged before with the same numbers on the same images."""
    return not each.is_judged and any(
        (other.key, other.metrics) == (each.key, each.metrics)
        and other.results.data["fingerprint"] == each.results.data["fingerprint"]
        for other in found
    )


def _named(found: Sequence[Shown]) -> list[Shown]:
    """With the folder of the results behind names that are not the only ones, then a number."""
    names = [each.name for each in found]
    longer = [
        f"{each.name} ({each.results.path.absolute().parent.name})"
        if names.count(each.name) > 1
        else each.name
        for each in found
    ]
    return [
        replace(each, name=name if longer.count(name) == 1 else f"{name} {number}")
        for number, (each, name) in enumerate(zip(found, longer, strict=True), start=1)
    ]


def _coloured(found: Sequence[Shown]) -> list[Shown]:
    """The judged ones first: the last of them, which the page is about, has colour 0."""
    pretrained = [each for each in found if each.colour >= 0]
    order = sorted(pretrained, key=lambda each: each.is_judged)[::-1]
    numbers = {each.name: number for number, each in enumerate(order)}
    return [replace(each, colour=numbers.get(each.name, each.colour)) for each in found]
