"""Hostile files: none runs, none opens what lies elsewhere, none writes where it should not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.linear_eval.report.conftest import STUDY, WORTH
from tests.torture import hostile_code, hostile_names, hostile_paths
from tests.torture.mutated_files import trained
from tests.torture.row import Row, Trials, Tried, chance_of


def _prepare(folder: Path) -> Trials:
    run = trained(folder)
    results = hostile_names.made(folder)

    def trial(number: int) -> Tried:
        chance, scratch = chance_of("hostile", number), folder / str(number)
        scratch.mkdir()
        os.chdir(scratch)
        try:
            kind = ("code", "paths", "names")[number % 3]
            if kind == "code":
                bad = hostile_code.ran(chance, run)
            elif kind == "paths":
                bad = hostile_paths.ran(chance)
            else:
                bad = hostile_names.ran(chance, results, STUDY, WORTH)
        finally:
            os.chdir(folder)
            shutil.rmtree(scratch)
        return Tried(tuple(bad), facts={kind: 1})

    return Trials(trial)


ROW = Row(
    name="hostile",
    says="hostile files (code, paths, names): ran, opened or wrote elsewhere",
    prepare=_prepare,
    must=200,
    aim=2000,
    chunk=20,
)
