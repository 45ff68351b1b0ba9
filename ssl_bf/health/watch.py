"""A run's log lines against the rules, as they come."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ssl_bf.health.rules import RULES, Finding, Outlook, Reading, RuleName, judge

PATIENCE = 2  # lines in a row that must show it: one batch may be odd
MEMORY = 100  # lines that are kept


class HealthWatch:
    """Reports each finding once, when the second line in a row shows it."""

    def __init__(self, outlook: Outlook, stop_on: Sequence[RuleName] = ()) -> None:
        """Begin without a line; `stop_on` names rules whose suspicion `is_suspect` tells."""
        self._outlook = outlook
        self._stop_on = stop_on
        self._lines: list[Reading] = []
        self._suspicions: dict[RuleName, list[Finding]] = {}
        self.healthy_step = 0  # of the last line that no rule in `stop_on` suspected

    def look(self, step: int, values: Mapping[str, float | None]) -> list[Finding]:
        """Take a line in; what is found for the first time, named by the first line it shows in."""
        reading = {"step": float(step)} | {
            name: float(value)
            for name, value in values.items()
            if value is not None and math.isfinite(value)
        }
        new: list[Finding] = []
        for name in RULES:
            finding = judge(name, reading, self._lines, self._outlook)
            seen = self._suspicions.setdefault(name, [])
            if finding is None:
                if len(seen) < PATIENCE:
                    seen.clear()  # what was reported is not reported again
                continue
            seen.append(finding)
            if len(seen) == PATIENCE:
                new.append(seen[0])
        if not self.is_suspect:
            self.healthy_step = step
        self._lines = [*self._lines, reading][-MEMORY:]
        return new

    @property
    def is_suspect(self) -> bool:
        """Whether a rule in `stop_on` fired on the last line: what is saved now may be broken."""
        return any(self._suspicions.get(name) for name in self._stop_on)
