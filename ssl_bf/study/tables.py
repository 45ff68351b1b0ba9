"""A study on the screen: its arms, a table and a sentence per contrast."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from linear_eval.results.intervals import Interval
from linear_eval.system.printable import aligned
from ssl_bf.study.results import StudyResults
from ssl_bf.study.verdict import Verdict

_TESTS = ("bootstrap", "p (Holm)", "margin", "p (TOST)", "equal")


def study_lines(results: StudyResults, *, width: int | None = None) -> list[str]:
    """Everything, line by line; tables are parted where the terminal is narrow.

    Args:
        results: of the study.
        width: in characters; None: that of the terminal, if there is one.
    """
    lines = _arm_lines(results)
    pairs = dict.fromkeys((each.asked.arm, each.asked.against) for each in results.verdicts)
    for arm, against in pairs:
        of_pair = [e for e in results.verdicts if (e.asked.arm, e.asked.against) == (arm, against)]
        lines += ["", *_contrast_lines(of_pair, results, width)]
    return [*lines, *([""] * bool(results.unanswered)), *results.unanswered]


def _arm_lines(results: StudyResults) -> list[str]:
    choices = results.record.choices
    headings = ["arm", "runs", "failed", "collapsed", "seconds a run"]
    headings += ["epochs"] * bool(choices.epochs) + ["learning rate"] * bool(choices.factors)
    rows = []
    for arm in results.study.arms:
        runs = results.of_arm(arm.name)
        seconds = f"{statistics.fmean(each.seconds for each in runs):,.0f}" if runs else "-"
        failed = sum(each["arm"] == arm.name for each in results.failed)
        cells = [arm.name, str(len(runs)), str(failed)]
        cells += [str(sum(each.collapsed for each in runs)), seconds]
        cells += [str(choices.epochs.get(arm.name, "-"))] * bool(choices.epochs)
        cells += [f"x {choices.factors.get(arm.name, 1):g}"] * bool(choices.factors)
        rows.append(cells)
    return aligned(headings, rows)


def _contrast_lines(
    verdicts: Sequence[Verdict], results: StudyResults, width: int | None
) -> list[str]:
    asked = verdicts[0].asked
    headings = ["percent", asked.arm, "sd", asked.against, "sd", "difference", "95 % interval"]
    rows = [_row(each, results) for each in verdicts]
    tests = [_tests(each) for each in verdicts]
    cells = [[*row, *more] for row, more in zip(rows, tests, strict=True)]
    whole = aligned([*headings, *_TESTS], cells, width=width)
    said = [f"{each.asked.metric}: {each.sentence}" for each in verdicts]
    return [f"{asked.name}, {_when(verdicts)}, {verdicts[0].test.pairs} pairs", *whole, *said]


def _when(verdicts: Sequence[Verdict]) -> str:
    stated = {each.asked.stated_before for each in verdicts}
    if len(stated) == 2:
        late = [each.asked.metric for each in verdicts if not each.asked.stated_before]
        return f"stated before the first run, but {', '.join(late)} AFTER it"
    return "stated before the first run" if stated == {True} else "stated AFTER the first run"


def _row(verdict: Verdict, results: StudyResults) -> list[str]:
    asked, cells = verdict.asked, [verdict.asked.metric]
    for arm in (asked.arm, asked.against):
        values = [each.metrics[asked.metric] for each in results.of_arm(arm)]
        cells += [f"{statistics.fmean(values):.2f}", f"{statistics.stdev(values):.2f}"]
    return [*cells, f"{verdict.test.mean:+.2f}", _bounds(verdict.test.interval)]


def _tests(verdict: Verdict) -> list[str]:
    test = verdict.test
    return [
        _bounds(verdict.bootstrap),
        f"{verdict.p_holm:.3f}",
        f"{verdict.asked.margin:g}",
        f"{test.p_equivalence:.3f}",
        "yes" if test.is_equivalent else "no",
    ]


def _bounds(interval: Interval) -> str:
    return f"[{interval[0]:+.2f}, {interval[1]:+.2f}]"
