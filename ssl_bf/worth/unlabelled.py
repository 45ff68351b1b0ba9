"""Stages 3 to 6 of a folder without labels: no accuracy, and so no verdict on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import fmean

from linear_eval.evaluation.config import RANDOM
from ssl_bf.scan.found import HOLDOUT, TEST
from ssl_bf.worth.contest import Contest, named
from ssl_bf.worth.outcome import Outcome, Shown
from ssl_bf.worth.quality import Quality, UnlabelledJudge
from ssl_bf.worth.training import backbone_of

_TO_BEGIN = 20  # labels per class: ten to learn from, ten to judge on


def without_labels(contest: Contest, show: Callable[[Outcome], None]) -> Outcome:
    """Baselines, rounds that RankMe decides, finalist, and at the end the test images.

    Args:
        contest: goes on with what is there.
        show: takes what is known after every stage.
    """
    judge = UnlabelledJudge(output=contest.output, setting=contest.plan.setting)
    plain = {RANDOM: RANDOM} | {named(each): each for each in contest.frozen}
    held = [_shown(name, [judge.look(name, what, HOLDOUT)]) for name, what in plain.items()]
    show(_so_far(held))
    winner = contest.choose(
        lambda rounds: show(
            _so_far([*held, *(Shown(name=n, metrics={"rankme": v}) for n, v in rounds.items())])
        )
    )
    runs = contest.finalist(winner)
    final = [
        judge.look(f"{run.name}.seed-{run.seed}", str(backbone_of(contest.output, run)), TEST)
        for run in runs
    ]
    finalist = _shown(winner.name, final, sum(run.of(contest.output).seconds() for run in runs))
    others = [_shown(name, [judge.look(name, what, TEST)]) for name, what in plain.items()]
    return Outcome(
        sentences=_sentences(finalist, others, contest.scan.parts[TEST]),
        contestants=[finalist, *others],
        is_final=True,
    )


def _sentences(finalist: Shown, others: Sequence[Shown], images: int) -> list[str]:
    ours = finalist.metrics
    against = ", ".join(
        f"{each.name} {each.metrics['rankme']:.0f} and {each.metrics['neighbours_kept']:.0f} %"
        for each in others
    )
    return [
        "Without labels nobody can know whether pretraining pays here: how many images are named "
        "rightly is not measured.",
        f"{_TO_BEGIN} labels a class, in class folders, would be a beginning.",
        f"What can be seen on {images} images: features of {finalist.name} fill "
        f"{ours['rankme']:.0f} directions (RankMe), and two crops of an image share "
        f"{ours['neighbours_kept']:.0f} % of their neighbours ({against}). Higher is often better, "
        "and proves nothing.",
    ]


def _shown(name: str, found: Sequence[Quality], seconds: float | None = None) -> Shown:
    nested = [asdict(each) for each in found]
    metrics = {key: fmean(each[key] for each in nested) for key in nested[0]}
    return Shown(name=name, metrics=metrics, seconds=seconds)


def _so_far(shown: Sequence[Shown]) -> Outcome:
    return Outcome(
        sentences=["No verdict yet; without labels there will be none on accuracy."],
        contestants=shown,
    )
