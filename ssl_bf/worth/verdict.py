"""Stage 6: what came out, in two sentences.

Stated before any run: the difference in test accuracy, with all labels and with each number of
labels per class, between the pretrained finalist and the best of all others, both as the hold-out
chose them. A rival that the finalist beats clearly may have been lucky on the hold-out: then the
one counts that comes nearest, so that pretraining pays only where it beats each of them clearly.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from linear_eval.evaluation.config import PIXELS
from linear_eval.results.intervals import Array
from ssl_bf.scan.found import HOLDOUT, TEST
from ssl_bf.worth.contest import Contestant
from ssl_bf.worth.difference import Difference, difference
from ssl_bf.worth.judging import ALL_LABELS, scores_of, with_labels
from ssl_bf.worth.recipes import SUPERVISED


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The finalist less its rival with so many labels.

    Attributes:
        labels: per class; None: all.
        accuracy: of the finalist in percent.
        rival: who was best on the hold-out; where that one is clearly beaten, who comes nearest.
        found: the difference.
        above: the other ones that did better than the finalist on test, with their accuracy.
    """

    labels: int | None
    accuracy: float
    rival: str
    found: Difference
    above: tuple[tuple[str, float], ...] = ()


def answers(
    finalist: Contestant, others: Sequence[Contestant], budgets: Sequence[int]
) -> list[Answer]:
    """With all labels first, then by number of labels.

    Args:
        finalist: judged on test.
        others: judged on the hold-out and on test.
        budgets: labels per class.
    """
    found = []
    for budget in (None, *budgets):
        rivals = [each for each in others if each.at(HOLDOUT, budget) and each.at(TEST, budget)]
        chosen = max(rivals, key=lambda each: accuracy(each, HOLDOUT, budget))
        answer = _against(finalist, chosen, budget)
        if answer.found.interval[0] > 0:
            everyone = [_against(finalist, each, budget) for each in rivals]
            answer = min(everyone, key=lambda each: each.found.interval[0])
        tested = [(each.name, accuracy(each, TEST, budget)) for each in rivals]
        above = [each for each in tested if each[1] > answer.accuracy and each[0] != answer.rival]
        found.append(replace(answer, above=tuple(above)))
    return found


def _against(finalist: Contestant, rival: Contestant, budget: int | None) -> Answer:
    return Answer(
        labels=budget,
        accuracy=accuracy(finalist, TEST, budget),
        rival=rival.name,
        found=difference(
            _scores(finalist, budget),
            _scores(rival, budget),
            ours_vary=True,
            theirs_vary=rival.name == SUPERVISED,
        ),
    )


def accuracy(contestant: Contestant, part: str, budget: int | None) -> float:
    """Percent, mean over seeds."""
    metric = ALL_LABELS if budget is None else with_labels(budget)
    values = [each.metrics[metric] for each in contestant.at(part, budget)]
    return sum(values) / len(values)


def sentences(name: str, found: Sequence[Answer], *, test_images: int, seeds: int) -> list[str]:
    """The verdict, and what it rests on.

    Args:
        name: of the finalist.
        found: from `answers`.
        test_images: how many.
        seeds: of the finalist.
    """
    first, *few = found
    gained, (low, high) = first.found.points, first.found.interval
    if not first.found.is_clear:
        head = "It is not clear whether pretraining pays on these images"
    elif gained > 0:
        head = "Pretraining pays on these images"
    else:
        head = "Pretraining does not pay on these images"
    others = ", ".join(f"{said_name(each)} {value:.1f} %" for each, value in first.above)
    said = [
        f"{head}: with all labels a probe on {name} names {first.accuracy:.1f} % of {test_images} "
        f"test images rightly, {gained:+.1f} points against {said_name(first.rival)} "
        f"(95 % interval {low:+.1f} to {high:+.1f})."
        + (f" On these also above it: {others}." if others else "")
    ]
    if few:
        said.append(few_labels(few, with_all=gained))
    noise = "one seed, its noise taken from experience" if seeds == 1 else f"{seeds} seeds"
    of_images = round(100 * first.found.of_images)
    said.append(
        f"The interval holds the noise of training ({noise}) and that of the test images: "
        f"{of_images} % of the variance comes from these."
    )
    return said


def few_labels(few: Sequence[Answer], *, with_all: float) -> str:
    """Where with few labels the finalist is ahead.

    Args:
        few: by number of labels.
        with_all: points with all labels; a crossing is named only if it is the last one.
    """
    clear_ahead = [each.labels for each in few if each.found.is_clear and each.found.points > 0]
    clear_behind = [each.labels for each in few if each.found.is_clear and each.found.points <= 0]
    ahead = [each.found.points > 0 for each in few]
    numbers = f"{few[0].labels} to {few[-1].labels}"
    crossing = _crossing(few)
    if all(ahead):
        head = f"With few labels it is ahead at every number tried, {numbers} a class"
    elif not any(ahead):
        head = f"With few labels it is behind at every number tried, {numbers} a class"
    elif crossing is not None and (with_all > 0) == ahead[-1]:
        side = "below" if ahead[0] else "above"
        head = f"It is ahead {side} about {crossing} labels a class"
    else:
        each_ahead = [each.labels for each in few if each.found.points > 0]
        head = f"With few labels it is ahead at {_listed(each_ahead)} a class and behind elsewhere"
    tails = []
    if clear_ahead:
        tails.append(f"clearly ahead at {_listed(clear_ahead)}")
    if clear_behind:
        tails.append(f"clearly behind at {_listed(clear_behind)}")
    return f"{head} ({'; '.join(tails) or 'nowhere clearly'})."


def said_name(name: str) -> str:
    """Of a contestant, in a sentence."""
    return {
        SUPERVISED: "the same network trained from scratch with labels",
        PIXELS: "raw pixels",
        "random": "a random network",
    }.get(name, name)


def _crossing(few: Sequence[Answer]) -> int | None:
    """Labels per class at which the sign changes; None where it changes several times."""
    changes = [
        (one, two)
        for one, two in itertools.pairwise(few)
        if (one.found.points > 0) != (two.found.points > 0)
    ]
    if len(changes) != 1:
        return None
    one, two = changes[0]
    assert one.labels is not None
    assert two.labels is not None
    share = one.found.points / (one.found.points - two.found.points)
    between = math.exp((1 - share) * math.log(one.labels) + share * math.log(two.labels))
    return round(between)


def _listed(numbers: Sequence[int | None]) -> str:
    return ", ".join(map(str, numbers))


def _scores(contestant: Contestant, budget: int | None) -> list[Array]:
    metric = ALL_LABELS if budget is None else with_labels(budget)
    found = [scores_of(each, metric) for each in contestant.at(TEST, budget)]
    return [each for each in found if each is not None]
