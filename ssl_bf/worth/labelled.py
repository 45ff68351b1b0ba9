"""Stages 3 to 6 of a folder with labels, and how they are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ssl_bf.scan.found import HOLDOUT, TEST, TRAIN
from ssl_bf.scan.scan import Scan
from ssl_bf.worth.contest import Contest, Contestant
from ssl_bf.worth.judging import ALL_LABELS, KNN
from ssl_bf.worth.outcome import Outcome, Shown
from ssl_bf.worth.verdict import Answer, accuracy, answers, sentences

Show = Callable[[Outcome], None]


def with_labels(contest: Contest, show: Show) -> Outcome:
    """Baselines, rounds, finalist, and at the end the test images.

    Args:
        contest: goes on with what is there.
        show: takes what is known after every stage.
    """
    baselines = contest.baselines(HOLDOUT)
    show(_so_far(baselines, {}))
    winner = contest.choose(lambda rounds: show(_so_far(baselines, rounds)))
    runs = contest.finalist(winner)
    # the test images are seen from here on: nothing is left to choose
    tested = [_joined(*pair) for pair in zip(baselines, contest.baselines(TEST), strict=True)]
    finalist = contest.judged_finalist(winner, runs, TEST)
    found = answers(finalist, tested, contest.plan.budgets)
    outcome = _outcome(finalist, tested, found, contest.scan)
    run = runs[0].of(contest.output).directory  # its curves, and its backbone for neighbours
    return replace(outcome, shown=[*outcome.shown, run])


def _so_far(baselines: list[Contestant], rounds: dict[str, float]) -> Outcome:
    shown = [_shown(each, HOLDOUT, ()) for each in baselines]
    shown += [Shown(name=name, metrics={KNN: value}) for name, value in rounds.items()]
    best = max(shown, key=lambda each: each.metrics[KNN])
    return Outcome(
        sentences=[
            "No verdict yet: the test images have not been looked at.",
            f"On the hold-out {best.name} leads, k-NN {best.metrics[KNN]:.1f} %.",
        ],
        contestants=shown,
    )


def _outcome(
    finalist: Contestant, tested: list[Contestant], found: list[Answer], scan: Scan
) -> Outcome:
    budgets = tuple(each.labels for each in found if each.labels is not None)
    said = sentences(
        finalist.name,
        found,
        test_images=scan.parts[TEST],
        seeds=len(finalist.results[TEST]),
    )
    per_class = round(scan.parts[TRAIN] / len(scan.classes))
    return Outcome(
        sentences=said,
        interval=found[0].found.interval,
        clear=found[0].found.is_clear,
        contestants=[_shown(each, TEST, budgets, per_class) for each in (finalist, *tested)],
        differences=[
            {
                "labels": each.labels,
                "rival": each.rival,
                "points": each.found.points,
                "interval": each.found.interval,
                "clear": each.found.is_clear,
            }
            for each in found
        ],
        shown=[each.results[TEST][0].path.parent for each in (*tested, finalist)],
        is_final=True,
    )


def _shown(
    each: Contestant, part: str, budgets: tuple[int, ...], per_class: int | None = None
) -> Shown:
    results = each.results[part]
    curve = {budget: accuracy(each, part, budget) for budget in budgets if each.at(part, budget)}
    if per_class is not None:
        curve[per_class] = accuracy(each, part, None)
    return Shown(
        name=each.name,
        metrics={
            key: sum(one.metrics[key] for one in results) / len(results)
            for key in (ALL_LABELS, KNN)
        },
        label_budget=curve,
        seconds=each.seconds or None,
    )


def _joined(held: Contestant, tested: Contestant) -> Contestant:
    return replace(
        tested,
        results=held.results | tested.results,
        with_few=held.with_few | tested.with_few,
    )
