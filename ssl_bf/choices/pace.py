"""How long a run on a CPU takes, and steps that stay slow: other processes want its cores.

A team of threads waits for each of its threads many times a step, so that a core shared with one
busy process makes the whole step several times as long.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch

from linear_eval.features.measured_threads import fastest
from linear_eval.system.cores import usable_cores
from linear_eval.system.distributed import world_size
from ssl_bf.choices.measured_choices import Precision, seconds_of_threads
from ssl_bf.config import PretrainConfig

AT_START = 20  # steps whose median is taken for normal
AT_LEAST = 5  # steps make a median
LONG = 60.0  # seconds of steps: whatever is over sooner is not worth a word
SLOW = 1.5  # times the normal; beside one busy process they take 2 to 20 times as long
LONG_RUN = 3600.0  # seconds
VIEWS = 2  # of each image
WORTH_IT = 1.1  # times as fast must another number of threads be


def time_needed(
    config: PretrainConfig, total_steps: int, seconds_per_view: float | None
) -> list[str]:
    """Log lines: how long a run takes at least, and what is shorter where that is over an hour.

    Args:
        config: the whole run.
        total_steps: of it.
        seconds_per_view: measured, of the backbone alone; None: nothing can be said.
    """
    if seconds_per_view is None:
        return []
    images = config.batch_size // world_size()
    seconds = total_steps * images * VIEWS * seconds_per_view
    lines = [
        f"time: at least {_span(seconds)} on this CPU: {total_steps} steps of {images} images, two "
        "views each, by the measured backbone alone; the log says more after the first steps"
    ]
    if seconds > LONG_RUN:
        lines.append(
            "warning: that is long: the config small_image_folder trains a small network on a "
            "folder in about 10 minutes, and with backbone.init=FILE weights that are there go on "
            "learning, which takes fewer epochs"
        )
    return lines


def _span(seconds: float) -> str:
    if seconds < LONG_RUN:
        return f"{max(1, round(seconds / 60))} min"
    hours = seconds / 3600
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.0f} days"


class Pace:
    """Watches how long steps take, in stretches of a minute.

    The median of a stretch is slow only if steps were slow for more than half of it. If the run
    itself began beside others, the fastest stretch so far is the normal one.
    """

    def __init__(self, note: Callable[[str], None], adapt: Callable[[], str] | None = None) -> None:
        """Begin at a start or a restart.

        Args:
            note: takes lines for the log.
            adapt: called once a minute; says what it changed, if anything.
        """
        self._note = note
        self._adapt = adapt
        self._stretch: list[float] = []
        self._normal: float | None = None
        self._has_spoken = False

    def after(self, seconds: float) -> None:
        """Add the duration of a step."""
        self._stretch.append(seconds)
        if self._normal is None:
            if len(self._stretch) == AT_START:
                self._normal = self._end_stretch()
        elif len(self._stretch) >= AT_LEAST and sum(self._stretch) >= LONG:
            line = self._judge(self._end_stretch())
            if line:
                self._note(line)

    def _judge(self, median: float) -> str:
        if self._adapt is not None:
            return self._adapt()
        assert self._normal is not None
        times, self._normal = median / self._normal, min(median, self._normal)
        if times <= SLOW or self._has_spoken:
            return ""
        self._has_spoken = True
        return _warning(times, torch.get_num_threads())

    def _end_stretch(self) -> float:
        median = statistics.median(self._stretch)
        self._stretch.clear()
        return median


def adapt_threads(config: PretrainConfig, precision: Precision) -> str:
    """Change torch's number of threads if another is clearly faster now; what was changed."""
    now, cores = torch.get_num_threads(), usable_cores()
    seconds = seconds_of_threads(config, precision, cores)
    best = fastest(seconds)
    if seconds.get(now, float("inf")) <= WORTH_IT * seconds[best]:
        return ""
    torch.set_num_threads(best)
    return f"threads: {best} of {cores} cores from here on, {now} before (speed.threads=adaptive)"


def _warning(times: float, threads: int) -> str:
    line = (
        f"warning: for over a minute steps have taken {times:.1f} times as long as at the start: "
        "most likely other processes compete for the cores; "
    )
    if threads == 1:
        return f"{line}stop those, or give this one a core of its own"
    return (
        f"{line}stop those, or resume with fewer than these {threads} threads "
        f"(speed.threads={threads - 1}) or with speed.threads=adaptive; both change last digits"
    )
