"""Progress of a run: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from tqdm import tqdm

from linear_eval.system.distributed import is_main, world_size
from linear_eval.system.screen import say
from ssl_bf.run.latest_value import LatestValue
from ssl_bf.schedules import Plan

BAR = 8  # columns


class Progress:
    """Prints to stderr, from the main process only."""

    def __init__(self, plan: Plan, *, first_step: int) -> None:
        """Start at `first_step` finished updates of `plan.total_steps`."""
        self._plan = plan
        self._bar: tqdm[Any] | None = None
        self._latest = LatestValue()
        self._shown = ["", "", ""]  # behind the bar: loss, learning rate, speed
        if is_main() and sys.stderr.isatty():
            self._bar = tqdm(
                total=plan.total_steps, initial=first_step, unit="step", dynamic_ncols=True
            )

    def note(self, line: str) -> None:
        """Print one line, above the bar where there is one."""
        if is_main():
            say(line)

    def advance(self, step: int, loss: Tensor) -> None:
        """Move the bar to `step` and show the newest loss that is here; prints nothing elsewhere.

        Args:
            step: finished, or begun on a device that nobody waits for.
            loss: scalar of that step, of this process.
        """
        if self._bar is None:
            return
        if (arrived := self._latest.follow(loss)) is not None:
            name = "loss" if world_size() == 1 else "loss here"  # a logged one is that of all
            self._shown[0] = f"{name} {arrived:.4g}"
        self._shown[1] = f"learning_rate {self._plan.learning_rate(step - 1):.4g}"
        self._bar.set_postfix_str(_fitting(self._bar, self._shown), refresh=False)
        self._bar.update(step - self._bar.n)

    def show(
        self,
        step: int,
        numbers: Mapping[str, float | None],
        *,
        images_per_second: float,
        seconds_per_step: float,
    ) -> None:
        """Show loss, learning rate, images/s and the time left; without a loss, every number."""
        is_training = "loss" in numbers
        parts = [
            f"{name} {number:.4g}"
            for name, number in numbers.items()
            if number is not None and (name in ("loss", "learning_rate") or not is_training)
        ]
        if is_training:
            parts.append(f"{images_per_second:,.0f} images/s")
            if self._bar is not None:
                self._shown = parts
                self._bar.set_postfix_str(_fitting(self._bar, parts))  # it shows step and ETA
                return
            seconds_left = (self._plan.total_steps - step) * seconds_per_step
            parts.append(f"ETA {tqdm.format_interval(seconds_left)}")
        epoch = step / self._plan.steps_per_epoch
        self.note("  ".join([f"step {step}/{self._plan.total_steps}  epoch {epoch:.2f}", *parts]))

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _fitting(bar: tqdm[Any], parts: Sequence[str]) -> str:
    """As many of the parts, from the first, as the terminal has room for beside a short bar."""
    facts = bar.format_dict
    columns = facts["ncols"]  # None: nobody knows
    while parts:
        text = "  ".join(filter(None, parts))
        width = len(tqdm.format_meter(**{**facts, "ncols": 0, "postfix": text}))
        if columns is None or width + BAR <= columns:
            return text
        parts = parts[:-1]
    return ""
