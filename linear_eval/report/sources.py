"""What the command line names: runs, results, studies, verdicts, each found by its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from linear_eval.report.run_files import Run, is_run, read_run
from linear_eval.results.results_file import (
    RESULTS_FILE,
    Results,
    read_results,
    require_different,
)
from linear_eval.results.study_file import STUDY_FILE, Study, read_study
from linear_eval.results.worth_file import WORTH_FILE, Worth, read_worth
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable


@dataclass(frozen=True, eq=False)
class Sources:
    """All that was found, in the order given."""

    runs: tuple[Run, ...] = ()
    results: tuple[Results, ...] = ()
    studies: tuple[Study, ...] = ()
    worths: tuple[Worth, ...] = ()

    @property
    def files(self) -> list[Path]:
        """Files that are read and must not be written over."""
        runs = [path for run in self.runs for path in run.path.glob("*") if path.is_file()]
        paths = [each.path for each in self.results]
        paths += [each.path for each in self.studies] + [each.path for each in self.worths]
        return runs + paths


def open_sources(paths: Sequence[Path]) -> Sources:
    """Read everything that is named; a run directory with results.json in it is both.

    Args:
        paths: at least one: directories of runs, folders with results, studies or verdicts, or
            their files.

    Raises:
        InputError: one of them is nothing of this, is named twice, or is damaged.
    """
    runs: list[Run] = []
    results: list[Results] = []
    studies: list[Study] = []
    worths: list[Worth] = []
    for path in paths:
        kinds = _kinds(path)
        if "run" in kinds:
            runs.append(read_run(path))
        if "results" in kinds:
            results.append(read_results(path))
        if "study" in kinds:
            studies.append(read_study(path))
        if "worth" in kinds:
            worths.append(read_worth(path))
    require_different(results)
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise InputError("RUN: a directory is given twice, expected different ones; leave one out")
    return Sources(tuple(runs), tuple(results), tuple(studies), tuple(worths))


def check_sources(paths: Sequence[Path]) -> None:
    """Refuse what is nothing of this, before torch is loaded.

    Raises:
        InputError: naming the path.
    """
    for path in paths:
        _kinds(path)


def _kinds(path: Path) -> set[str]:
    if not path.exists():
        raise InputError(
            f"{printable(str(path))}: no such file or folder, expected a run directory, or results "
            "of `linear-eval run`, `ssl-bf ablate` or `ssl-bf worth`; give its path"
        )
    if not path.is_dir():
        return {_kind_of_file(path)}
    found = {
        kind
        for kind, name in (("results", RESULTS_FILE), ("study", STUDY_FILE), ("worth", WORTH_FILE))
        if (path / name).is_file()
    }
    found |= {"run"} if is_run(path) else set()
    if not found:
        raise InputError(
            f"{printable(str(path))}: holds neither a run (config.yaml, metrics.jsonl) nor "
            f"{RESULTS_FILE}, {STUDY_FILE} or {WORTH_FILE}; give a folder that does"
        )
    return found


def _kind_of_file(path: Path) -> str:
    """By its keys; what is none of the others is read, and refused, as results."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "results"
    keys = found.keys() if isinstance(found, dict) else set()
    if "contrasts" in keys:
        return "study"
    return "worth" if "verdict" in keys else "results"
