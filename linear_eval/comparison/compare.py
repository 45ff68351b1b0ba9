"""The flow of `linear-eval compare`: read both sides, check that they compare, print and write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from linear_eval.comparison import compare_models, compare_runs
from linear_eval.comparison.compare_models import (
    ModelDifference,
    model_differences,
    model_notes,
    pair_images,
)
from linear_eval.comparison.compare_runs import (
    RunsDifference,
    pair_runs,
    runs_differences,
    runs_notes,
)
from linear_eval.results.image_contents import contents_note
from linear_eval.results.intervals import Unit
from linear_eval.results.per_image import per_image_path, read_per_image
from linear_eval.results.results_file import (
    RESULTS_FILE,
    Results,
    common_protocols,
    different_settings,
    read_results,
    require_comparable,
    require_different,
    require_different_backbones,
)
from linear_eval.system.atomic_file import atomic_file, check_output, check_suffix
from linear_eval.system.errors import InputError
from linear_eval.system.printable import aligned, one_line, shortened


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """How to compare.

    Attributes:
        by: of two models: what is resampled; None: what the evaluation says, mostly images.
        common_images: of two models: leave out test images that one side could not read.
        paired: of several runs: runs of one pretraining seed belong together; see `pair_runs`.
        json_file: where the comparison is written to as well.
        verbose: whether all notes are printed.
        overwrite: whether a `json_file` that exists is replaced.
    """

    by: Unit | None = None
    common_images: bool = False
    paired: bool = False
    json_file: Path | None = None
    verbose: bool = False
    overwrite: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison:
    """What came out.

    Attributes:
        sides: `A` and `B`, in words.
        interval_meaning: what the intervals are.
        differences: one per metric.
        notes: one line each.
    """

    sides: dict[str, str]
    interval_meaning: str
    differences: Sequence[ModelDifference | RunsDifference]
    notes: list[str]


def compare(a: Sequence[Path], b: Sequence[Path], options: CompareOptions) -> None:
    """Compare two models, or two groups of pretraining runs: print a table, and write JSON.

    Args:
        a: `results.json` files, or folders that hold one; at least one.
        b: likewise.
        options: how.

    Raises:
        InputError: a file is missing or damaged, the sides are not comparable, they have no
            protocol or metric in common, or an option does not fit the runs.
    """
    if options.json_file is not None:
        _check_place(options.json_file, [*a, *b], overwrite=options.overwrite)
    runs_a, runs_b = ([read_results(path) for path in side] for side in (a, b))
    runs = [*runs_a, *runs_b]
    require_different(runs)
    _check_options(len(a), len(b), options, runs)
    require_comparable(runs, unread_images=options.common_images)
    comparison = (
        _compare_models(runs_a[0], runs_b[0], options)
        if len(runs) == 2
        else _compare_runs(runs_a, runs_b, options)
    )
    if options.json_file is not None:
        with atomic_file(options.json_file) as file:
            file.write(
                (json.dumps(_as_json(comparison), indent=2, allow_nan=False) + "\n").encode()
            )
    print(format_comparison(comparison, verbose=options.verbose))
    if options.json_file is not None:
        print(f"written: {options.json_file}")


def _check_place(path: Path, compared: Sequence[Path], *, overwrite: bool) -> None:
    files = [each / RESULTS_FILE if each.is_dir() else each for each in compared]
    answers = [per_image_path(each) for each in files]
    reads = {"one of the files compared": [*files, *answers]}
    check_output(path, "--json", overwrite=overwrite, reads=reads)
    check_suffix(path, "--json", ".json")


def format_comparison(comparison: Comparison, *, verbose: bool = False) -> str:
    """The two sides, the table, and the notes."""
    rows = comparison.differences
    sides = [f"{name}: {one_line(text)}" for name, text in comparison.sides.items()]
    table = aligned(["percent", *rows[0].HEADINGS], [[row.metric, *row.cells()] for row in rows])
    notes = [f"note: {one_line(note)}" for note in comparison.notes]
    return "\n".join([*sides, *table, *shortened(notes, verbose=verbose)])


def _check_options(num_a: int, num_b: int, options: CompareOptions, runs: list[Results]) -> None:
    two_models = num_a == num_b == 1
    if not two_models and min(num_a, num_b) < 2:
        raise InputError(
            f"runs: {num_a} against {num_b}, expected one of either side or two and more of both; "
            "a single run has no spread"
        )
    if two_models and options.paired:
        raise InputError("--paired: pairs runs, expected two or more of either side; leave it out")
    if options.paired and num_a != num_b:
        raise InputError(f"--paired: {num_a} runs against {num_b}, expected as many of either side")
    for name, given in (("--by", options.by), ("--common-images", options.common_images)):
        if given and not two_models:
            raise InputError(f"{name}: is for two models, here are {len(runs)} runs; leave it out")
    if not two_models:
        require_different_backbones(runs)


def _compare_models(a: Results, b: Results, options: CompareOptions) -> Comparison:
    answers_a, answers_b = (read_per_image(run.path, run.per_image) for run in (a, b))
    paired = pair_images(answers_a, answers_b, common_images=options.common_images)
    differences = model_differences(paired, a.metrics, b.metrics, unit=options.by)
    notes = [
        *_remarks([a, b], differences),
        *model_notes(paired, differences, _on_chance(differences)),
    ]
    digest = a.backbone.get("sha256")
    if digest is not None and digest == b.backbone.get("sha256"):
        notes.insert(0, "both sides judge the same backbone file")
    return Comparison(
        sides={"A": f"{answers_a.judged} ({a.path})", "B": f"{answers_b.judged} ({b.path})"},
        interval_meaning=compare_models.INTERVAL_MEANING,
        differences=differences,
        notes=notes,
    )


def _compare_runs(a: list[Results], b: list[Results], options: CompareOptions) -> Comparison:
    pairs = None
    if options.paired:
        b, pairs = pair_runs(a, b)
    differences = runs_differences(
        [run.metrics for run in a], [run.metrics for run in b], paired=options.paired
    )
    listed = [", ".join(str(run.path) for run in side) for side in (a, b)]
    return Comparison(
        sides={"A": f"{len(a)} runs: {listed[0]}", "B": f"{len(b)} runs: {listed[1]}"},
        interval_meaning=compare_runs.INTERVAL_MEANING,
        differences=differences,
        notes=[
            *_remarks([*a, *b], differences),
            _on_chance(differences),
            *runs_notes(len(a), len(b), pairs),
        ],
    )


def _remarks(
    runs: list[Results], differences: Sequence[ModelDifference | RunsDifference]
) -> list[str]:
    """Notes that every comparison gets.

    Raises:
        InputError: no metric is common to all runs.
    """
    if not differences:
        keys = [", ".join(list(run.metrics)[:3]) or "none" for run in (runs[0], runs[-1])]
        raise InputError(
            f"metrics: none in common, {runs[0].path} has {keys[0]} and {runs[-1].path} {keys[1]}; "
            "judge both with the same evaluators"
        )
    notes = (
        [line]
        if (line := contents_note([run.path for run in runs], [run.data for run in runs]))
        else []
    )
    if unsealed := [str(run.path) for run in runs if not run.is_sealed]:
        notes.append(f"without a digest, as earlier versions wrote them: {', '.join(unsealed)}")
    if settings := different_settings(runs):
        notes.append(f"judged with different settings, which differ too: {', '.join(settings)}")
    named = {name for run in runs for name in run.protocols}
    if left := sorted(named - {*common_protocols(runs)}):
        notes.append(f"protocols left out, since not every side has them: {', '.join(left)}")
    compared = {each.metric for each in differences}
    others = {key for run in runs for key in run.metrics if _protocol_of(key, named) not in left}
    if alone := sorted(others - compared):
        notes.append(f"not compared, since not every side has it: {', '.join(alone)}")
    return notes


def _protocol_of(metric: str, named: set[str]) -> str:
    """As `protocol_of`, whose module takes the evaluators and with them torch."""
    first = metric.partition("/")[0]
    return first if first in named else "ours"


def _on_chance(differences: Sequence[ModelDifference | RunsDifference]) -> str:
    return (
        f"{len(differences)} metrics were compared, none corrected for that: where nothing "
        "differs, about 1 interval in 20 leaves out 0 all the same"
    )


def _as_json(comparison: Comparison) -> dict[str, Any]:
    rows = [asdict(difference) for difference in comparison.differences]
    return {
        "sides": comparison.sides,
        "interval_meaning": comparison.interval_meaning,
        "metrics": {row.pop("metric"): row for row in rows},
        "notes": comparison.notes,
    }
