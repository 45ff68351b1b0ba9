"""The flow of `ssl-bf worth`: stage after stage, each of which leaves what it found."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from linear_eval.report.page import PAGE_FILE
from linear_eval.system.atomic_file import atomic_file, check_new
from linear_eval.system.errors import InputError, StoppedBySignal
from linear_eval.system.folder_lock import InUseError, sole_use
from linear_eval.system.screen import say
from ssl_bf.scan.scan import IMAGES, Scan, scan_folder, scan_lines
from ssl_bf.worth.contest import Contest
from ssl_bf.worth.fit import make_plan
from ssl_bf.worth.labelled import with_labels
from ssl_bf.worth.outcome import Outcome, longer_command, write_outcome
from ssl_bf.worth.plan import PLAN_FILE, Plan, read_plan
from ssl_bf.worth.starts import check_frozen, starts
from ssl_bf.worth.unlabelled import without_labels

ASKED_FILE = "asked.json"
_SIDE = 128  # of the copies, in pixels
_SIDE_FOR_FROZEN = 256
_MAY_BE_THERE = {ASKED_FILE, ".lock"}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user wants to know.

    Attributes:
        folder: of the images.
        output: of everything else.
        minutes: that it may take.
        frozen: backbone files and `timm:NAME`, judged as they are, and started from.
        labels: whether folders are taken for classes.
        jobs: runs at a time; None: as fits the machine.
    """

    folder: Path
    output: Path
    minutes: float
    frozen: tuple[str, ...] = ()
    labels: bool = True
    jobs: int | None = None


def worth(asked: Asked, plan: Plan | None = None) -> Outcome:
    """Do what is left, and say whether pretraining pays.

    Args:
        asked: the question.
        plan: instead of one that is measured.

    Raises:
        InputError: too few images, too little time, a file that is no backbone, or a folder of
            something else.
        RunFailed: no run of a stage could be trained.
        StoppedBySignal: a signal asked for it; the verdict so far is written.
    """
    began = time.monotonic()
    check_frozen(asked.frozen)
    with _claimed(asked):
        try:
            return _stages(asked, plan, began)
        except (StoppedBySignal, KeyboardInterrupt) as stop:
            page = asked.output / PAGE_FILE
            so_far = f"; what is known so far: {page}" if page.is_file() else ""
            raise StoppedBySignal(f"stopped; the same command goes on{so_far}") from stop


def _stages(asked: Asked, plan: Plan | None, began: float) -> Outcome:
    side = _SIDE_FOR_FROZEN if asked.frozen else _SIDE
    scan = scan_folder(asked.folder, asked.output, labels=asked.labels, side=side)
    for line in scan_lines(scan):
        say(f"scan: {line}")
    show = _Shower(asked, scan)
    show(Outcome(sentences=["So far only the images were looked at."]))
    plan = _planned(asked, scan, plan, began)
    for line in plan.lines():
        say(f"plan: {line}")
    show.plan = plan
    contest = Contest(output=asked.output, scan=scan, plan=plan, frozen=asked.frozen)
    outcome = with_labels(contest, show) if scan.is_labelled else without_labels(contest, show)
    show(outcome)
    print("\n".join(outcome.sentences))
    print(f"to go on, in four times the time: {show.command}")
    print(f"written: {asked.output / PAGE_FILE} (opens in any browser)")
    return outcome


def _planned(asked: Asked, scan: Scan, plan: Plan | None, began: float) -> Plan:
    """The plan of an earlier command, the one that is given, or one that is measured."""
    root = str((asked.output / IMAGES).absolute())
    found = read_plan(asked.output)
    if found is None:
        deadline = began + 60 * asked.minutes
        if plan is None:
            candidates, notes = starts(asked.frozen)
            for note in notes:
                say(f"plan: {note}")
            plan = make_plan(
                scan,
                Path(root),
                minutes=asked.minutes,
                deadline=deadline,
                jobs=asked.jobs,
                starts=candidates,
            )
        found = plan
        found.write(asked.output)
    return replace(found, setting=replace(found.setting, root=root))


@dataclass
class _Shower:
    """Writes what is known."""

    asked: Asked
    scan: Scan
    plan: Plan | None = None

    @property
    def command(self) -> str:
        asked = self.asked
        return longer_command(asked.folder, asked.output, asked.minutes, asked.frozen)

    def __call__(self, outcome: Outcome) -> None:
        write_outcome(
            self.asked.output, outcome, command=self.command, scan=self.scan, plan=self.plan
        )


@contextmanager
def _claimed(asked: Asked) -> Iterator[None]:
    """Make the folder ours, and keep others out of it."""
    output = asked.output
    if output.absolute().is_relative_to(asked.folder.absolute()):
        raise InputError(
            f"--output: {output} lies in {asked.folder}, where it would be taken for images; name "
            "a folder elsewhere"
        )
    now = {
        "folder": str(asked.folder.absolute()),
        "minutes": asked.minutes,
        "frozen": list(asked.frozen),
        "labels": asked.labels,
    }
    _refuse_other(output, now)
    place = output.absolute()
    while not place.parent.exists():
        place = place.parent
    check_new(place, "--output")
    output.mkdir(parents=True, exist_ok=True)
    try:
        with sole_use(output):
            with atomic_file(output / ASKED_FILE) as file:
                file.write(json.dumps(now, indent=2).encode() + b"\n")
            try:
                yield
            except InputError:
                if not (output / PLAN_FILE).is_file():  # nothing was begun; the folder is free
                    shutil.rmtree(output, ignore_errors=True)
                raise
    except InUseError as error:
        raise InputError(
            f"--output: another worth works in {output}; wait for it, stop it, or name another"
        ) from error


def _refuse_other(output: Path, now: dict[str, object]) -> None:
    if output.exists() and not output.is_dir():
        raise InputError(f"--output: {output} is a file, expected a folder; name another")
    path = output / ASKED_FILE
    if not path.is_file():
        others = {each.name for each in output.iterdir()} - _MAY_BE_THERE if output.exists() else {}
        if others:
            raise InputError(
                f"--output: {output} holds {min(others)} and no worth, expected an empty folder or "
                "none; name another"
            )
        return
    try:
        then = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{path}: is damaged ({error}), expected what a worth was asked; name another --output"
        ) from error
    for key, value in now.items():
        if then.get(key) != value:
            raise InputError(
                f"--output: {output} holds the worth of {key} {then.get(key)}, now {value}; give "
                "the same command to go on, or name another folder"
            )
