"""Stages 3 to 5: baselines, rounds of pretraining, and at the end the test images."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from linear_eval.datasets.image_folder import ImageFolderConfig
from linear_eval.evaluation.config import PIXELS, RANDOM
from linear_eval.evaluators.label_draws import LabelBudget, draw_rows
from linear_eval.results.results_file import Results
from linear_eval.system.atomic_file import atomic_file
from linear_eval.system.atomic_folder import atomic_folder
from linear_eval.system.screen import say
from ssl_bf.scan.found import HOLDOUT, TRAIN
from ssl_bf.scan.scan import IMAGES, Scan
from ssl_bf.worth.fit import supervised_epochs_with
from ssl_bf.worth.judging import KNN, Judge
from ssl_bf.worth.plan import Plan
from ssl_bf.worth.quality import UnlabelledJudge
from ssl_bf.worth.recipes import SUPERVISED, Candidate
from ssl_bf.worth.training import Wanted, backbone_of, train

ROUNDS_FILE = "rounds.json"
LABELS = "labels"  # folders with a few labels per class
_DRAW = "0/0"  # the first that the judge draws: seed 0, draw 0


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """Who is judged in the end.

    Attributes:
        name: for the reader.
        is_pretrained: on these images; the others are what it is compared with.
        results: by part, of every seed.
        with_few: by part and labels per class, of networks that saw these labels alone.
        seconds: of training, of all seeds.
    """

    name: str
    is_pretrained: bool = False
    results: dict[str, list[Results]] = field(default_factory=dict)
    with_few: dict[tuple[str, int], Results] = field(default_factory=dict)
    seconds: float = 0.0

    def at(self, part: str, budget: int | None) -> list[Results]:
        """What speaks for it with so many labels per class (None: all), one of each seed."""
        if self.name == SUPERVISED and budget is not None:
            found = self.with_few.get((part, budget))
            return [] if found is None else [found]
        return self.results.get(part, [])


@dataclass(frozen=True, kw_only=True)
class Contest:
    """A contest on the disk; every method goes on with what is there."""

    output: Path
    scan: Scan
    plan: Plan
    frozen: tuple[str, ...]

    @property
    def judge(self) -> Judge:
        """Of all."""
        return Judge(output=self.output, plan=self.plan)

    def baselines(self, part: str) -> list[Contestant]:
        """Pixels, a random network, frozen files, and the supervised network, judged."""
        plain = {PIXELS: PIXELS, RANDOM: RANDOM} | {named(each): each for each in self.frozen}
        found = [Contestant(name=name) for name in plain]
        for each in found:
            each.results[part] = [self._judged(each.name, plain[each.name], part)]
        return [*found, self._supervised(part)]

    def choose(self, note: Callable[[dict[str, float]], None]) -> Candidate:
        """Rounds of pretraining, judged on the hold-out; ties by the order of the plan.

        By k-NN, or without labels by RankMe.

        Args:
            note: takes the last number of every candidate after each round.
        """
        kept = list(self.plan.candidates)
        rounds: list[dict[str, float]] = []
        for number, rung in enumerate(self.plan.rungs, start=1):
            kept = kept[: rung.kept]
            wanted = [
                self._pretraining(each, rung.epochs, f"round-{number}", seed=0) for each in kept
            ]
            done = train(self.output, wanted, jobs=self.plan.jobs)
            scores = {}
            for candidate, run in zip(kept, wanted, strict=True):
                if run in done:
                    path = str(backbone_of(self.output, run))
                    scores[candidate.name] = self._score(run.name, path)
            rounds.append(scores)
            kept = [each for each in kept if each.name in scores]
            kept.sort(key=lambda each: -scores[each.name])
            say(f"round {number}: " + ", ".join(f"{e.name} {scores[e.name]:.1f}" for e in kept))
            with atomic_file(self.output / ROUNDS_FILE) as file:
                file.write(json.dumps(rounds, indent=2).encode() + b"\n")
            note({name: value for each in rounds for name, value in each.items()})
        return kept[0]

    def _score(self, name: str, path: str) -> float:
        if self.scan.is_labelled:
            return self.judge.look(name, path, HOLDOUT, probes=False).metrics[KNN]
        judge = UnlabelledJudge(output=self.output, setting=self.plan.setting)
        return judge.look(name, path, HOLDOUT).rankme

    def finalist(self, winner: Candidate) -> list[Wanted]:
        """Train the winner once more, with every seed; these are the ones that are trained."""
        wanted = [
            self._pretraining(winner, self.plan.epochs, "final", seed=seed + 1)
            for seed in range(self.plan.seeds)
        ]
        return train(self.output, wanted, jobs=self.plan.jobs)

    def judged_finalist(self, winner: Candidate, runs: Sequence[Wanted], part: str) -> Contestant:
        """The winner, judged with all its seeds."""
        found = Contestant(
            name=winner.name,
            is_pretrained=True,
            seconds=sum(run.of(self.output).seconds() for run in runs),
        )
        found.results[part] = [
            self._judged(f"{run.name}.seed-{run.seed}", str(backbone_of(self.output, run)), part)
            for run in runs
        ]
        return found

    def _supervised(self, part: str) -> Contestant:
        setting, plan = self.plan.setting, self.plan
        config = setting.supervised(plan.epochs, batch_size=setting.batch_size)
        runs = [Wanted(name=SUPERVISED, seed=seed + 1, config=config) for seed in range(plan.seeds)]
        few = {budget: self._with_few(budget) for budget in plan.supervised_budgets}
        done = train(self.output, runs, jobs=plan.jobs)
        if few:
            train(self.output, list(few.values()), jobs=plan.jobs)
        found = Contestant(
            name=SUPERVISED, seconds=sum(run.of(self.output).seconds() for run in done)
        )
        found.results[part] = [
            self._judged(f"{run.name}.seed-{run.seed}", str(backbone_of(self.output, run)), part)
            for run in done
        ]
        for budget, run in few.items():
            if run.of(self.output).stage() == "trained":
                path = str(backbone_of(self.output, run))
                found.with_few[part, budget] = self.judge.look(
                    run.name, path, part, probes=False, budgets=[budget]
                )
        return found

    def _with_few(self, budget: int) -> Wanted:
        """A network that sees the labels that the judge draws first, and no other image."""
        name = f"{SUPERVISED}-{budget}-labels"
        folder = self.output / LABELS / name
        train_split = ImageFolderConfig(root=str(self.output / IMAGES)).open_train()
        rows = draw_rows(
            train_split.ids,
            train_split.labels,
            LabelBudget(name=f"n={budget}", per_class=budget),
            _DRAW,
        ).tolist()
        if not folder.is_dir():
            folder.parent.mkdir(exist_ok=True)
            with atomic_folder(folder) as made:
                for row in rows:
                    source = (self.output / IMAGES / TRAIN / train_split.ids[row]).resolve()
                    place = made / TRAIN / train_split.ids[row]
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.symlink_to(source)
        batch_size = min(32, len(rows))
        epochs = supervised_epochs_with(len(rows), batch_size)
        config = self.plan.setting.supervised(
            epochs, root=str(folder.absolute()), batch_size=batch_size
        )
        return Wanted(name=name, seed=1, config=config)

    def _pretraining(self, candidate: Candidate, epochs: int, stage: str, *, seed: int) -> Wanted:
        config = self.plan.setting.pretraining(candidate, epochs, self.scan.parts[TRAIN])
        return Wanted(name=f"{candidate.name}-{stage}", seed=seed, config=config)

    def _judged(self, name: str, backbone: str, part: str) -> Results:
        plan = self.plan
        return self.judge.look(
            name, backbone, part, probes=True, budgets=plan.budgets, draws=plan.draws
        )


def named(frozen: str) -> str:
    """Frozen weights, for the reader and of files."""
    return frozen if frozen.startswith("timm:") else Path(frozen).stem
