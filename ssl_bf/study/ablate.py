"""The flow of `ssl-bf ablate`: check, choose what arms share, train all, judge all, answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from linear_eval.strict_config.reader import to_yaml
from linear_eval.system.atomic_file import atomic_file, check_new
from linear_eval.system.errors import InputError, RunFailed, StoppedBySignal
from linear_eval.system.folder_lock import InUseError, sole_use
from linear_eval.system.screen import say
from ssl_bf.study.arms import Arm, check_networks, open_arms
from ssl_bf.study.budget import equal_seconds, run_overrides, shared_choices
from ssl_bf.study.holdout import (
    chosen_factors,
    pilot_lines,
    pilot_runs,
    rate_override,
    trial_runs,
)
from ssl_bf.study.judging import Judge, open_judge
from ssl_bf.study.record import Choices, Record, continued, read_record
from ssl_bf.study.results import collect
from ssl_bf.study.run_folder import StudyRun, runs_of
from ssl_bf.study.schedule import Launcher, Place, do_all, last_error
from ssl_bf.study.status import eta
from ssl_bf.study.study_file import StudyConfig
from ssl_bf.study.tables import study_lines
from ssl_bf.study.tasks import CONFIGS, Task


@dataclass(eq=False)
class Study:
    """A study that is worked on, in a folder that is ours meanwhile.

    Attributes:
        config: of the study.
        arms: of it.
        judge: of it.
        record: as it is on the disk.
    """

    config: StudyConfig
    arms: list[Arm]
    judge: Judge
    record: Record

    @property
    def folder(self) -> Path:
        """Of everything."""
        return Path(self.config.directory)

    @property
    def names(self) -> list[str]:
        """Of the arms."""
        return [arm.name for arm in self.arms]

    def choose(self, choices: Choices) -> None:
        """Keep what was chosen, for good."""
        if choices != self.record.choices:
            self.record = replace(self.record, choices=choices)
            self.record.write(self.folder)

    def training(self, run: StudyRun) -> Task:
        """The task that trains a run."""
        [arm] = [each for each in self.arms if each.name == run.arm]
        factor = run.factor or self.record.choices.factors.get(arm.name)
        texts = [*run_overrides(arm, self.record.choices), *arm.seed_overrides(run.seed)]
        texts += [] if factor is None else [rate_override(arm, factor)]
        config = self.folder / CONFIGS / f"{arm.name}.yaml"
        return Task(what="train", run=run, config=config, overrides=tuple(texts))

    def judging(self, run: StudyRun) -> Task:
        """The task that judges it."""
        [arm] = [each for each in self.arms if each.name == run.arm]
        texts = [t for t in arm.seed_overrides(run.seed) if t.startswith("data.")]
        texts.append(f"speed.threads={self.record.choices.threads}")
        config = self.folder / CONFIGS / "judge.yaml"
        return Task(what="judge", run=run, config=config, overrides=tuple(texts))


def ablate(config: StudyConfig, place: Place, *, pilot: bool = False) -> None:
    """Do what is left of a study, and say what came out.

    Args:
        config: the study.
        place: where its runs work.
        pilot: train a few seeds, and say from the hold-out how many are needed.

    Raises:
        InputError: anything wrong with the study, its folder or its data; finished runs are kept.
        RunFailed: runs failed; the others are judged and the tables printed.
        StoppedBySignal: a signal asked for it; the same command goes on.
    """
    arms, judge = open_arms(config), open_judge(config)
    check_networks(arms)
    place.check(config, arms)
    settings = {arm.name: arm.settings for arm in arms}
    folder = Path(config.directory)
    with _claimed(folder):
        record = continued(read_record(folder), config, settings, judge.settings)
        study = Study(config, arms, judge, record)
        record.write(folder)  # first: a folder that holds anything else without it is not ours
        _write_configs(study)
        for note in dict.fromkeys(note for arm in arms for note in arm.notes):
            say(note)
        try:
            launcher = _prepared(study, place)
            if pilot:
                _pilot(study, launcher)
            else:
                _train_and_judge(study, launcher)
        except StoppedBySignal as stop:
            raise StoppedBySignal(
                f"stopped and saved; the same command goes on with what is in {folder}"
            ) from stop


def _prepared(study: Study, place: Place) -> Launcher:
    """Choose what is not chosen yet: precision, threads, epochs, learning rates."""
    config = study.config
    study.choose(shared_choices(place.threads(config), study.arms, study.record.choices))
    study.choose(equal_seconds(config, study.arms, study.record.choices))
    choices = study.record.choices
    assert choices.threads is not None, choices
    launcher = place.launcher(config, choices.threads)
    new = [name for name in study.names if name not in choices.factors]
    if config.learning_rates.seeds and new:
        trials = trial_runs(config, new)
        do_all(map(study.training, trials), launcher, jobs=config.jobs)
        factors = {**choices.factors, **chosen_factors(trials, new)}
        study.choose(replace(choices, factors=factors))
    return launcher


def _pilot(study: Study, launcher: Launcher) -> None:
    runs = pilot_runs(study.config)
    _refuse_failed(_train(study, runs, launcher))
    for line in pilot_lines(study.config, runs):
        print(line)


def _train_and_judge(study: Study, launcher: Launcher) -> None:
    runs = runs_of(study.folder, study.names, study.config.seeds)
    failed = {task.run: _why(task) for task in _train(study, runs, launcher)}
    trained = [run for run in runs if run not in failed]
    # the test images are seen from here on: nothing is left to choose or to stop early
    not_judged = do_all(map(study.judging, trained), launcher, jobs=study.config.jobs)
    failed |= {task.run: _why(task) for task in not_judged}
    results = collect(study.config, study.record, failed)
    for line in study_lines(results):
        print(line)
    print(f"written: {results.write()}")
    _refuse_failed([*failed])
    if results.unanswered:
        made = ", ".join(results.runs[0].metrics)
        raise RunFailed(f"{results.unanswered[0]}; it made {made}; all runs are kept")


def _train(study: Study, runs: Sequence[StudyRun], launcher: Launcher) -> list[Task]:
    return do_all(
        map(study.training, runs),
        launcher,
        jobs=study.config.jobs,
        progress=lambda: f"; {eta(runs, study.config)}",
    )


def _why(task: Task) -> str:
    return task.run.why_it_stopped() or last_error(task.run.log) or f"see {task.run.log.name}"


def _refuse_failed(failed: Sequence[object]) -> None:
    if failed:
        raise RunFailed(
            f"{len(failed)} run(s) failed, named above; the same command tries them again, all "
            "others are kept"
        )


def _write_configs(study: Study) -> None:
    """One file per arm and one for the judge: what their commands read, and anybody may run."""
    folder = study.folder / CONFIGS
    folder.mkdir(exist_ok=True)
    texts = {arm.name: to_yaml(arm.config) for arm in study.arms}
    for name, text in {**texts, "judge": to_yaml(study.judge.config)}.items():
        with atomic_file(folder / f"{name}.yaml") as file:
            file.write(text.encode())


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Make the folder, and keep a second `ablate` out of it."""
    read_record(folder)  # what is no folder of ours is left alone
    place = folder.absolute()
    while not place.parent.exists():
        place = place.parent
    check_new(place, "directory")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with sole_use(folder):
            yield
    except InUseError as error:
        raise InputError(
            f"directory: another ablate works in {folder}; wait for it, stop it, or name another "
            "directory"
        ) from error
