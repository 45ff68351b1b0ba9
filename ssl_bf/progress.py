"""What a person sees of a run: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from linear_eval.distributed import is_main
from ssl_bf.schedules import Plan


class Progress:
    """Prints to stderr, from the main process only."""

    def __init__(self, plan: Plan, *, first_step: int) -> None:
        """Start at `first_step` finished updates of `plan.total_steps`."""
        self._plan = plan
        self._bar: tqdm[Any] | None = None
        if is_main() and sys.stderr.isatty():
            self._bar = tqdm(total=plan.total_steps, initial=first_step, unit="step")

    def note(self, line: str) -> None:
        """Print one line, above the bar where there is one."""
        if not is_main():
            return
        if self._bar is not None:
            tqdm.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def advance(self, step: int) -> None:
        """Move the bar to `step`; prints nothing elsewhere."""
        if self._bar is not None:
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
                self._bar.set_postfix_str("  ".join(parts))  # the bar shows step and ETA itself
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
