"""Stage 2: what is fixed before the first run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from linear_eval.system.atomic_file import atomic_file
from linear_eval.system.errors import InputError
from ssl_bf.worth.recipes import Candidate, Setting

PLAN_FILE = "plan.json"


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A round of pretraining: `kept` candidates, each from its start for `epochs`."""

    kept: int
    epochs: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that is fixed before the first run.

    Attributes:
        setting: of all runs.
        jobs: runs at a time.
        candidates: of pretraining.
        rungs: rounds that choose among them.
        epochs: of the winner, from its start once more, and of the supervised baseline.
        seeds: of it, and of the supervised baseline.
        budgets: labels per class at which all are judged.
        supervised_budgets: those at which a network is trained with these labels alone.
        draws: of labels, per budget.
        seconds: that all of it is expected to take.
    """

    setting: Setting
    jobs: int
    candidates: tuple[Candidate, ...]
    rungs: tuple[Rung, ...]
    epochs: int
    seeds: int
    budgets: tuple[int, ...]
    supervised_budgets: tuple[int, ...]
    draws: int
    seconds: float

    def write(self, output: Path) -> None:
        """As a whole file."""
        with atomic_file(output / PLAN_FILE) as file:
            file.write(json.dumps(asdict(self), indent=2).encode() + b"\n")

    def lines(self) -> list[str]:
        """The plan in words."""
        setting, names = self.setting, ", ".join(each.name for each in self.candidates)
        rungs = "; ".join(
            f"{rung.kept} for {rung.epochs} epochs" for rung in self.rungs if rung.kept > 1
        )
        halving = f"rounds that choose by the hold-out: {rungs}; then" if rungs else "no round to "
        halving += "" if rungs else "choose in, so"
        one = "one seed: its noise is taken from experience" if self.seeds == 1 else "seeds each"
        supervised = [
            f"supervised from scratch: as many epochs; both with "
            f"{self.seeds if self.seeds > 1 else ''} {one}".replace("  ", " ")
        ]
        return [
            f"{setting.backbone['name']} at {setting.size} px, batches of {setting.batch_size}, "
            f"{setting.threads} thread(s), {self.jobs} run(s) at a time",
            f"pretraining: {names}",
            f"{halving} the winner for {self.epochs} epochs",
            *(supervised if self.budgets else []),
            f"about {self.seconds / 60:.0f} min from here on",
        ]


def read_plan(output: Path) -> Plan | None:
    """What an earlier command planned; None where there is no plan yet.

    Raises:
        InputError: it cannot be read.
    """
    path = output / PLAN_FILE
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found["setting"] = Setting(**found["setting"])
        found["candidates"] = tuple(Candidate(**each) for each in found["candidates"])
        found["rungs"] = tuple(Rung(**each) for each in found["rungs"])
        for key in ("budgets", "supervised_budgets"):
            found[key] = tuple(found[key])
        return Plan(**found)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: is damaged or of another version ({error}), expected the plan of a worth; "
            "name another --output"
        ) from error
