"""A study and a verdict of `worth` as drawings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from linear_eval.charts.axis import category_axis, linear_axis, log_axis
from linear_eval.charts.interval_rows import Estimate, IntervalRows, interval_rows
from linear_eval.charts.line_chart import Line, LineChart, line_chart
from linear_eval.report.answers import metric_name
from linear_eval.report.verdict import points_text, range_text
from linear_eval.results.study_file import Contrast, Study, StudyRun
from linear_eval.results.worth_file import Worth

_MAX_METRICS = 4  # of the paired lines; the table has all
_NUM_COLOURS = 10


@dataclass(frozen=True)
class ArmRow:
    """An arm: how many runs, and mean and spread (None for one run) of each metric."""

    arm: str
    count: int
    cells: tuple[tuple[float, float | None] | None, ...]


@dataclass(frozen=True)
class StudySection:
    """What the page shows of a study: `metrics` are the headings of `arms`."""

    study: Study
    forest: IntervalRows | None
    seeds: tuple[LineChart, ...]
    metrics: tuple[str, ...]
    arms: tuple[ArmRow, ...]


def study_section(study: Study) -> StudySection:
    """Forest plot of the contrasts, seeds as paired lines, arms as a table."""
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
    )


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
