"""A study and a verdict of `worth` as drawings."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from linear_eval.charts.axis import category_axis, linear_axis, log_axis
from linear_eval.charts.interval_rows import Estimate, IntervalRows, interval_rows
from linear_eval.charts.line_chart import Line, LineChart, line_chart
from linear_eval.report.answers import metric_name
from linear_eval.report.curves import curve_charts, has_related
from linear_eval.report.run_files import Run, is_run, read_run
from linear_eval.report.verdict import points_text, range_text
from linear_eval.results.study_file import Contrast, Study, StudyRun
from linear_eval.results.worth_file import Worth
from linear_eval.system.errors import InputError

_MAX_METRICS = 4  # of the paired lines; the table has all
_NUM_COLOURS = 10


@dataclass(frozen=True)
class ArmRow:
    """An arm: how many runs, and mean and spread (None for one run) of each metric."""

    arm: str
    count: int
    cells: tuple[tuple[float, float | None] | None, ...]


@dataclass(frozen=True)
class StudyCurves:
    """Charts with a line for each arm, by its number among the study's arms.

    Attributes:
        charts: as of single runs.
        has_related: whether any has lines of a related stream.
        runs: of each arm that is there its first, with the mean lines.
        command: that shows a run by itself; "" where none is there.
        absent: how many runs of the study are not there, or have logged nothing.
    """

    charts: tuple[LineChart, ...]
    has_related: bool
    runs: dict[str, Run]
    command: str
    absent: int


@dataclass(frozen=True)
class StudySection:
    """What the page shows of a study: `metrics` are the headings of `arms`."""

    study: Study
    forest: IntervalRows | None
    seeds: tuple[LineChart, ...]
    metrics: tuple[str, ...]
    arms: tuple[ArmRow, ...]
    curves: StudyCurves


def study_section(study: Study) -> StudySection:
    """Forest plot of the contrasts, seeds as paired lines, arms as a table, curves.

    Raises:
        InputError: a run of it is damaged.
    """
    metrics = tuple(dict.fromkeys(each.metric for each in study.contrasts))
    metrics = metrics or tuple(dict.fromkeys(key for run in study.runs for key in run.metrics))
    arms = tuple(dict.fromkeys(run.arm for run in study.runs))
    return StudySection(
        study=study,
        forest=interval_rows([_estimate(each) for each in study.contrasts])
        if study.contrasts
        else None,
        seeds=tuple(
            chart
            for metric in metrics[:_MAX_METRICS]
            if (chart := _seed_lines(study.runs, arms, metric)) is not None
        ),
        metrics=tuple(map(metric_name, metrics)),
        arms=tuple(_arm_row(arm, study.runs, metrics) for arm in arms),
        curves=study_curves(study, arms),
    )


def study_curves(study: Study, arms: Sequence[str]) -> StudyCurves:
    """Read the runs that lie beside study.json, and draw their means.

    Args:
        study: with the folders of its runs.
        arms: in the order of their colours.

    Raises:
        InputError: a run is damaged, or a folder lies elsewhere.
    """
    by_arm: dict[str, list[Run]] = {}
    absent, command = 0, ""
    for each in study.runs:
        folder = None if each.directory is None else study.path.parent / each.directory
        if folder is None or not is_run(folder):
            absent += 1
            continue
        if not folder.resolve().is_relative_to(study.path.parent.resolve()):
            raise InputError(
                f"{study.path}: the run {each.directory} lies outside the folder of the study, "
                "expected one inside; run the study again"
            )
        run = read_run(folder)
        if not run.lines:
            absent += 1
            continue
        by_arm.setdefault(each.arm, []).append(run)
        shown = f"{study.path.parent.absolute().name}/{each.directory}"
        command = command or f"linear-eval report {shlex.quote(shown)}"
    means = {arm: _mean_of(runs) for arm, runs in by_arm.items()}
    drawn = [(number, arm) for number, arm in enumerate(arms) if arm in means]
    runs = [means[arm] for _, arm in drawn]
    charts = curve_charts(runs, [arm for _, arm in drawn], [number for number, _ in drawn])
    return StudyCurves(tuple(charts), has_related(runs), means, command, absent)


def label_budget_chart(worth: Worth) -> LineChart | None:
    """Accuracy by labels per class of each contestant; None where nobody was tried with two."""
    counts = {count for each in worth.contestants for count in each.by_labels}
    if len(counts) < 2:
        return None
    lines = [
        Line(
            each.name,
            [(float(count), value) for count, value in sorted(each.by_labels.items())],
            number % _NUM_COLOURS,
            dots=True,
        )
        for number, each in enumerate(worth.contestants)
    ]
    values = [y for line in lines for _, y in line.points]
    return line_chart(
        "Accuracy by label budget, %",
        lines,
        log_axis(counts),
        linear_axis(values),
        x_label="labels per class",
    )


def _estimate(each: Contrast) -> Estimate:
    tags = []
    if not each.stated_before:
        tags.append("stated after the first run")
    if each.equivalent:
        tags.append(f"equivalent within {each.margin:g}" if each.margin else "equivalent")
    if each.p_holm is not None:
        tags.append(f"p {each.p_holm:.2g} (Holm)")
    ends = "" if each.interval is None else f" [{range_text(each.interval)}]"
    return Estimate(
        name=f"{each.name}, {metric_name(each.metric)}",
        value=each.difference,
        interval=each.interval,
        margin=each.margin,
        text=f"{points_text(each.difference)}{ends}",
        tags=tuple(tags),
    )


def _seed_lines(runs: Sequence[StudyRun], arms: Sequence[str], metric: str) -> LineChart | None:
    """One line per seed, over the arms."""
    values = [run.metrics[metric] for run in runs if metric in run.metrics]
    if not values:
        return None
    place = {arm: float(number) for number, arm in enumerate(arms)}
    seeds = sorted({run.seed for run in runs})
    lines = [
        Line(
            f"seed {seed}",
            sorted(
                (place[run.arm], run.metrics[metric])
                for run in runs
                if run.seed == seed and metric in run.metrics
            ),
            number % _NUM_COLOURS,
            dots=True,
        )
        for number, seed in enumerate(seeds)
    ]
    return line_chart(
        metric_name(metric), lines, category_axis(arms), linear_axis(values), x_label="arm"
    )


def _arm_row(arm: str, runs: Sequence[StudyRun], metrics: Sequence[str]) -> ArmRow:
    own = [run for run in runs if run.arm == arm]
    cells: list[tuple[float, float | None] | None] = []
    for metric in metrics:
        values = [run.metrics[metric] for run in own if metric in run.metrics]
        if not values:
            cells.append(None)
            continue
        mean = sum(values) / len(values)
        squares = sum((value - mean) ** 2 for value in values)
        cells.append((mean, (squares / (len(values) - 1)) ** 0.5 if len(values) > 1 else None))
    return ArmRow(arm, len(own), tuple(cells))


def _mean_of(runs: Sequence[Run]) -> Run:
    """Of the steps and numbers that all of them logged; a number that one has not is left out."""
    by_step = [_by_step(run) for run in runs]
    lines = []
    for step in sorted(set.intersection(*map(set, by_step))):
        found = [each[step] for each in by_step]
        names = set.intersection(*map(set, found))
        lines.append({name: sum(line[name] for line in found) / len(found) for name in names})
    return replace(runs[0], lines=tuple(lines))


def _by_step(run: Run) -> dict[int, dict[str, float]]:
    """The monitor has a line of its own, of a step that others have as well."""
    found: dict[int, dict[str, float]] = {}
    for line in run.lines:
        found.setdefault(int(line["step"]), {}).update(line)
    return found
